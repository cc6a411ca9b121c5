"""Pickles made by hand that try to run code, to take memory or time, or to break their reader."""

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

WIDTH, DEPTH = 8, 2


def vit_weights(width: int = WIDTH, depth: int = DEPTH) -> dict[str, torch.Tensor]:
    """Weights of a MAE (timm's names) for images of 4 x 4 pixels."""
    draw = torch.Generator().manual_seed(0)
    shapes = {'cls_token': (1, 1, width), 'pos_embed': (1, 5, width), 'norm.weight': (width,), 'norm.bias': (width,)}
    shapes |= {'patch_embed.proj.weight': (width, 1, 2, 2), 'patch_embed.proj.bias': (width,)}
    for block in range(depth):
        for layer, rows, columns in (
            ('attn.qkv', 3 * width, width),
            ('attn.proj', width, width),
            ('mlp.fc1', 4 * width, width),
            ('mlp.fc2', width, 4 * width),
        ):
            shapes[f'blocks.{block}.{layer}.weight'] = (rows, columns)
            shapes[f'blocks.{block}.{layer}.bias'] = (rows,)
        for norm in ('norm1', 'norm2'):
            shapes[f'blocks.{block}.{norm}.weight'] = shapes[f'blocks.{block}.{norm}.bias'] = (width,)
    shapes['decoder_blocks.0.norm1.weight'] = (width,)
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


# ---------------------------------------------------------------- pickles by hand
MARK, REDUCE, BUILD, NEWOBJ, STOP, EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT = (
    b'(',
    b'R',
    b'b',
    b'\x81',
    b'.',
    b')',
    b']',
    b'}',
)


def text(value: str | bytes) -> bytes:
    raw = value.encode('utf-8', 'surrogatepass') if isinstance(value, str) else value
    return b'X' + struct.pack('<I', len(raw)) + raw


def number(value: int) -> bytes:
    raw = pickle.encode_long(value)
    return b'\x8b' + struct.pack('<I', len(raw)) + raw


def name(module: str, attribute: str) -> bytes:
    return f'c{module}\n{attribute}\n'.encode()


def tuple_of(*parts: bytes) -> bytes:
    return MARK + b''.join(parts) + b't'


def call(function: bytes, *args: bytes) -> bytes:
    return function + tuple_of(*args) + REDUCE


def items(target: bytes, entries: Mapping[str, bytes]) -> bytes:
    return target + MARK + b''.join(text(key) + value for key, value in entries.items()) + b'u'


def put(number_: int) -> bytes:
    return b'r' + struct.pack('<I', number_)


def get(number_: int) -> bytes:
    return b'j' + struct.pack('<I', number_)


END_OF_STORAGE = b'<end of storage>'  # a storage has one more entry in files of old


def storage(key: str, count: int, kind: str = 'FloatStorage') -> bytes:
    return tuple_of(text('storage'), name('torch', kind), text(key), text('cpu'), number(count))[:-1] + END_OF_STORAGE


_REBUILD = name('torch._utils', '_rebuild_tensor_v2')
_RECONSTRUCT = name('numpy.core.multiarray', '_reconstruct')


def tensor_args(of: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    numbers = [tuple_of(*map(number, each)) for each in (size, stride)]
    return tuple_of(of, number(offset), *numbers, b'\x89', call(name('collections', 'OrderedDict')))


def tensor(of: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    return _REBUILD + tensor_args(of, size, stride, offset) + REDUCE


# ---------------------------------------------------------------- thought out
COUNT = sum(value.numel() for value in vit_weights().values())
RAW = torch.cat([value.flatten() for value in vit_weights().values()]).numpy().tobytes()


def beside(extra: bytes, old: bool = False) -> bytes:
    """A pickle of good weights, in a storage ``w``, with something else beside them; for a file of old or not."""
    weights, place = {}, 0
    for key, value in vit_weights().items():
        weights[key] = tensor(storage('w', COUNT), tuple(value.shape), value.stride(), place)
        place += value.numel()
    content = items(EMPTY_DICT, {'model': items(EMPTY_DICT, weights), 'extra': extra})
    return b'\x80\x02' + content.replace(END_OF_STORAGE, b'NtQ' if old else b'tQ') + STOP


def code_pickles(marker: Path) -> dict[str, bytes]:
    """Values that would make the marker if anything of them were run."""
    command = text(f'touch {marker}')
    system, mkdir = name('posix', 'system'), name('posix', 'mkdir')
    run = call(system, command)
    state = items(EMPTY_DICT, {'__class__': name('subprocess', 'Popen'), 'pop': system, '__setstate__': system})
    ordered = call(name('collections', 'OrderedDict'))
    some = tensor(storage('w', COUNT), (1,), (1,))
    array = call(_RECONSTRUCT, name('numpy', 'ndarray'), tuple_of(number(0)), text('b'))
    objects = call(name('numpy', 'dtype'), text('O8'), b'\x89', b'\x88')
    made = call(name('builtins', 'getattr'), name('argparse', 'Namespace'), text('__init__'))
    return {
        'call': run,
        'call by name on the stack': text('posix') + text('system') + b'\x93' + tuple_of(command) + REDUCE,
        'new object': name('subprocess', 'Popen') + tuple_of(command) + NEWOBJ,
        'new object with keywords': name('subprocess', 'Popen') + tuple_of(command) + items(EMPTY_DICT, {}) + b'\x92',
        'old object': MARK + system + command + b'o',
        'old instance': MARK + command + b'iposix\nsystem\n',
        'eval': call(name('builtins', 'eval'), text(f'__import__("os").mkdir({str(marker)!r})')),
        'python 2': call(name('__builtin__', 'eval'), text(f'__import__("os").mkdir({str(marker)!r})')),
        'attribute': call(call(name('builtins', 'getattr'), name('os', 'path'), text('os')), command),
        'attribute called': made + tuple_of(command) + REDUCE,
        'extension': b'\x82\x01',
        'state of an ordered dict': ordered + state + BUILD,
        'state of a namespace': name('argparse', 'Namespace') + EMPTY_TUPLE + NEWOBJ + state + BUILD,
        'state of a tensor': some + state + BUILD,
        'state of a class': name('argparse', 'Namespace') + state + BUILD,
        'state of a list': EMPTY_LIST + state + BUILD,
        'default factory': call(name('collections', 'defaultdict'), system) + state + BUILD,
        'hooks': call(
            _REBUILD,
            *(storage('w', COUNT), number(0), tuple_of(number(1)), tuple_of(number(1)), b'\x89'),
            items(ordered, {'0': system}),
        ),
        'parameter with state': call(
            name('torch._utils', '_rebuild_parameter_with_state'), some, b'\x88', ordered, state
        ),
        'tensor of a type': call(
            name('torch._tensor', '_rebuild_from_type_v2'), system, name('torch', 'Tensor'), tuple_of(command), state
        ),
        'type of a tensor': call(
            name('torch._tensor', '_rebuild_from_type_v2'),
            name('torch._utils', '_rebuild_parameter'),
            name('subprocess', 'Popen'),
            tuple_of(some, b'\x88', ordered),
            state,
        ),
        'wrapper': call(name('torch._utils', '_rebuild_wrapper_subclass'), name('subprocess', 'Popen'), command),
        'bytes with a pickle': call(
            name('torch.storage', '_load_from_bytes'), b'B' + struct.pack('<I', len(run) + 1) + run + STOP
        ),
        'array of objects': array
        + tuple_of(number(1), tuple_of(number(1)), objects, b'\x89', EMPTY_LIST + run + b'a')
        + BUILD,
        'array of a class': call(_RECONSTRUCT, name('subprocess', 'Popen'), tuple_of(number(0)), text('b')),
        'object as a number': call(name('numpy.core.multiarray', 'scalar'), objects, run),
        'made again': call(
            name('copyreg', '_reconstructor'), name('subprocess', 'Popen'), name('builtins', 'object'), command
        ),
        'storage of a class': storage('w', 1).replace(name('torch', 'FloatStorage'), system),
        'other persistent id': tuple_of(text('module'), system, command) + b'Q',
        'key': EMPTY_DICT + MARK + run + b'N' + b'u',
        'folder': call(mkdir, text(str(marker))),
    }


def _doubled(start: bytes, step: Callable[[int], bytes], count: int) -> bytes:
    """``start`` at place 100 of the memo, then ``step`` so often, each for the place of the one before."""
    return (
        start + put(100) + b'0' + b''.join(step(100 + n) + put(101 + n) + b'0' for n in range(count)) + get(100 + count)
    )


def list_of(values: bytes) -> bytes:
    return EMPTY_LIST + MARK + values + b'e'


def growing_pickles() -> dict[str, bytes]:
    """Values that are small in the file and large in memory, or take long."""
    codec = name('_codecs', 'encode')
    large = text('a' * 200_000) + put(1) + b'0' + codec + put(2) + b'0' + text('latin1') + put(3) + b'0'
    encode = get(2) + get(1) + get(3) + b'\x86' + REDUCE
    pairs = EMPTY_LIST + put(5) + MARK + b''.join(tuple_of(text(f'{n}'), b'N') for n in range(20_000)) + b'e' + b'0'
    many = name('collections', 'OrderedDict') + put(6) + b'0' + pairs
    dtype = call(name('numpy', 'dtype'), text('f8'), b'\x89', b'\x88')
    wide = call(name('numpy', 'dtype'), text('f8,(1000000000,)f8'), b'\x89', b'\x88')
    array = call(_RECONSTRUCT, name('numpy', 'ndarray'), tuple_of(number(2**33)), text('b'))
    shaped = array + tuple_of(number(1), tuple_of(number(2**33)), dtype, b'\x89', b'C\x08' + bytes(8)) + BUILD
    two = [lambda n: get(n) + get(n) + b'\x86', lambda n: EMPTY_LIST + MARK + get(n) + get(n) + b'e']
    some = tensor(storage('w', COUNT), (2,), (1,))
    many_values = MARK + b'N' * 50_000 + b't' + put(5) + b'0'
    twice = _REBUILD + put(6) + tensor_args(storage('w', COUNT), (2,), (1,)) + put(7) + b'00'
    hashes = b''.join(number(n * (2**61 - 1)) + b'N' for n in range(100_000))
    return {
        'tuples doubled': _doubled(EMPTY_TUPLE, two[0], 60),
        'lists doubled': _doubled(EMPTY_LIST, two[1], 60),
        'dicts doubled': _doubled(
            EMPTY_DICT, lambda n: EMPTY_DICT + MARK + text('a') + get(n) + text('b') + get(n) + b'u', 60
        ),
        'texts in lists doubled': _doubled(text('a' * 9999), two[1], 12),
        'tensors doubled': _doubled(some, two[1], 40),
        'key that is a doubled tuple': EMPTY_DICT + _doubled(EMPTY_TUPLE, two[0], 60) + b'Ns',
        'set of doubled tuples': b'\x8f' + MARK + _doubled(EMPTY_TUPLE, two[0], 60) + b'\x90',
        'names of attributes doubled': _doubled(
            text('a'), lambda n: call(name('builtins', 'getattr'), get(n), get(n)), 60
        ),
        'text encoded often': large + list_of(encode * 50_000),
        'dict copied often': many + list_of((get(6) + get(5) + b'\x85' + REDUCE) * 20_000),
        'set copied often': pairs + list_of((name('builtins', 'set') + get(5) + b'\x85' + REDUCE) * 20_000),
        'keywords copied often': many_values + list_of((name('a', 'b') + get(5) + b'}\x92') * 20_000),
        'tensors repeated': twice + list_of((get(6) + get(7) + REDUCE) * 100_000),
        'keys in one chain': EMPTY_DICT + MARK + b''.join(number(n << 40) + b'N' for n in range(100_000)) + b'u',
        'bytearray': call(name('builtins', 'bytearray'), number(2**34)),
        'range': call(name('builtins', 'list'), call(name('builtins', 'range'), number(2**34))),
        'array': shaped,
        'wide dtype': array + tuple_of(number(1), tuple_of(number(1)), wide, b'\x89', b'C\x08' + bytes(8)) + BUILD,
        'expanded tensor': tensor(storage('w', COUNT), (2**20, 2**20), (0, 0)),
        'overlapping tensor': tensor(storage('w', COUNT), (500, 500), (1, 1)),
        'huge storage': tensor(storage('w', 2**40), (2**40,), (1,)),
        'huge empty tensor': tensor(storage('w', COUNT), (0, 2**40), (1, 1)),
        'many dimensions': tensor(storage('w', COUNT), (1,) * 5000, (1,) * 5000),
        'meta tensor': call(
            name('torch._utils', '_rebuild_meta_tensor_no_storage'),
            name('torch', 'float32'),
            tuple_of(number(2**40)),
            tuple_of(number(1)),
            b'\x89',
        ),
        'size': call(name('torch', 'Size'), tuple_of(number(2**62))),
        'dicts': list_of(EMPTY_DICT * 2_100_000),
        'marks': MARK * 2_100_000,
        'deep lists': EMPTY_LIST * 100_000 + b'a' * 99_999,
        'deep tuples': EMPTY_TUPLE + b'\x85' * 100_000,
        'deep objects': EMPTY_TUPLE + (b'\x85' + put(1) + b'0' + name('a', 'b') + get(1) + NEWOBJ) * 20_000,
        'large number': number(2**8_000_000),
        'number of many digits': b'I' + b'9' * 4000 + b'\n',
        'number of too many digits': b'L' + b'9' * 1_000_000 + b'L\n',
        'equal hashes': EMPTY_DICT + MARK + hashes + b'u',
        'far memo': b'N' + put(2**32 - 1),
        'frame': b'\x95' + struct.pack('<Q', 2**62) + b'N',
        'promised bytes': b'\x8e' + struct.pack('<Q', 2**40) + b'abc',
        'promised text': b'\x8d' + struct.pack('<Q', 2**40) + b'abc',
        'promised bytearray': b'\x96' + struct.pack('<Q', 2**36) + b'abc',
        'list in itself': EMPTY_LIST + put(9) + get(9) + b'a',
        'dict in itself': EMPTY_DICT + put(9) + text('a') + get(9) + b's',
        'tuple in itself': EMPTY_LIST + put(9) + get(9) + b'\x85' + put(10) + b'a',
        'object in itself': name('a', 'b') + EMPTY_TUPLE + NEWOBJ + put(9) + items(EMPTY_DICT, {'a': get(9)}) + BUILD,
    }


def odd_pickles() -> dict[str, bytes]:
    """Values that break a careless reader."""
    w = storage('w', COUNT)
    return {
        'NUL in a name': items(EMPTY_DICT, {'a\0b': tensor(w, (1,), (1,))}),
        'escape in a name': items(EMPTY_DICT, {'\x1b[2Ja': tensor(w, (1,), (1,))}),
        'half a character': items(EMPTY_DICT, {'\udc80': text('\udc80')}),
        'long name': items(EMPTY_DICT, {'a' * 1_000_000: tensor(w, (1,), (1,))}),
        'name that is a list': EMPTY_DICT + MARK + EMPTY_LIST + tensor(w, (1,), (1,)) + b'u',
        'name that is a tensor': EMPTY_DICT + MARK + tensor(w, (1,), (1,)) + b'N' + b'u',
        'two keys of one text': EMPTY_DICT + MARK + text('None') + b'N' + b'N' + b'N' + b'u',
        'negative stride': tensor(w, (3,), (-1,), 2),
        'negative size': tensor(w, (-3,), (1,)),
        'negative offset': tensor(w, (3,), (1,), -2),
        'behind the end': tensor(w, (3,), (1,), COUNT - 2),
        'far stride': tensor(w, (2,), (2**47,)),
        'number as size': call(_REBUILD, w, number(0), number(3), number(1), b'\x89', b'N'),
        'float as size': call(
            _REBUILD,
            w,
            number(0),
            tuple_of(b'G' + bytes(8)),
            tuple_of(number(1)),
            b'\x89',
            b'N',
        ),
        'tensor without storage': tensor(b'N', (1,), (1,)),
        'tensor of a tensor': tensor(tensor(w, (1,), (1,)), (1,), (1,)),
        'no such storage': tensor(storage('x', 1), (1,), (1,)),
        'storage outside': tensor(storage('../version', 1), (1,), (1,)),
        'storage with a negative count': tensor(storage('w', -1), (1,), (1,)),
        'storage of wider numbers': tensor(storage('w', COUNT, 'DoubleStorage'), (COUNT,), (1,)),
        'quantized storage': tensor(storage('w', 4, 'QUInt8Storage'), (1,), (1,)),
        'quantized tensor': call(
            name('torch._utils', '_rebuild_qtensor'), w, number(0), tuple_of(), tuple_of(), tuple_of(), b'\x89', b'N'
        ),
        'sparse tensor': call(
            name('torch._utils', '_rebuild_sparse_tensor'),
            call(name('torch.serialization', '_get_layout'), text('torch.sparse_coo')),
            tuple_of(b'N', b'N', b'N'),
        ),
        'list as arguments': name('torch', 'Size') + EMPTY_LIST + REDUCE,
        'arguments too few': call(_REBUILD),
        'call of a text': text('a') + EMPTY_TUPLE + REDUCE,
        'call of a tensor': tensor(w, (1,), (1,)) + EMPTY_TUPLE + REDUCE,
        'empty stack': b'0' * 10,
        'no such memo': get(77),
        'mark as value': MARK + b'\x85',
        'unknown operation': b'\xff',
        'not finite': b'G' + struct.pack('>d', float('nan')),
    }
