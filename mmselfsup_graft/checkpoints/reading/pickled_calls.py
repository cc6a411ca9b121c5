"""Replacements of the calls in a checkpoint: they build tensors, arrays and containers from data.

Every size is taken from the bytes in the file and never from a number that the file states. All functions take the
unpickler and the arguments of the call.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from .stubs import Name, Refused, Stub, shown
from .unpickling import Call, Unpickler

DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_OTHER_NAMES = {'Double': 'float64', 'Float': 'float32', 'Half': 'float16', 'BFloat16': 'bfloat16', 'Long': 'int64'}
_OTHER_NAMES |= {'Int': 'int32', 'Short': 'int16', 'Char': 'int8', 'Byte': 'uint8', 'Bool': 'bool'}
_OTHER_NAMES |= {'ComplexFloat': 'complex64', 'ComplexDouble': 'complex128'}
STORAGE_TYPES = {
    f'{module}.{kind}Storage': getattr(torch, name)
    for module in ('torch', 'torch.cuda')
    for kind, name in _OTHER_NAMES.items()
} | {'torch.storage.UntypedStorage': torch.uint8}
_MAX_DIMENSIONS = 32
_TENSOR_COST = 1000  # bytes of a tensor besides its values; a file describes it in about a hundred
_ARRAY = 'numpy.ndarray'


class Storage(NamedTuple):
    """The bytes of one or more tensors, referred to by a persistent id."""

    dtype: torch.dtype
    data: torch.UntypedStorage


# ---------------------------------------------------------------- tensors
def _tensor(machine: Unpickler, args: tuple) -> torch.Tensor:
    """A tensor in a storage: ``(storage, offset, size, stride, ...)``."""
    storage, offset, size, stride, *_ = args
    return _in_storage(machine, storage, storage.dtype, offset, size, stride, args[6:7])


def _typed_tensor(machine: Unpickler, args: tuple) -> torch.Tensor:
    """A tensor whose dtype is a separate argument."""
    storage, offset, size, stride, _, _, dtype, *_ = args
    if dtype.text not in DTYPES:
        raise Refused(f'it holds a tensor of an unknown dtype ({shown(dtype.text)})')
    return _in_storage(machine, storage, DTYPES[dtype.text], offset, size, stride, args[7:8])


def _in_storage(
    machine: Unpickler, storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any, flags: tuple
) -> torch.Tensor:
    if not isinstance(storage, Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError('a tensor without storage, size or stride')
    if len(size) > _MAX_DIMENSIONS or len(size) != len(stride):
        raise Refused(f'it holds a tensor of {len(size)} dimensions and {len(stride)} strides')
    if any(type(each) is not int or not 0 <= each < 2**48 for each in (offset, *size, *stride)):
        raise ValueError('size, stride or offset of a tensor')
    if any(flags):
        raise Refused('it holds a lazily negated or conjugated tensor')
    machine.spend(_TENSOR_COST)
    count, room = math.prod(size), storage.data.nbytes() // dtype.itemsize
    if count > room:
        raise Refused(
            f'it holds a tensor of {count:,} elements whose storage has {room:,}; save an expanded tensor as '
            'tensor.contiguous()'
        )
    last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if count else 0
    if last >= max(room, 1):
        raise ValueError('a tensor extends beyond its storage')
    if not count and math.prod(length for length in size if length) >= 2**31:
        raise Refused('it holds an empty tensor with the size of a huge one')
    return torch.empty(0, dtype=dtype).set_(storage.data, offset if count else 0, size, stride)  # type: ignore[call-overload]


def _parameter(machine: Unpickler, args: tuple) -> torch.Tensor:
    if not isinstance(args[0], torch.Tensor):
        raise ValueError('a parameter without tensor')
    return args[0]


def _of_subclass(machine: Unpickler, args: tuple) -> Any:
    """A tensor of a subclass or with attributes: ``(function, class, args, state)``; it becomes a plain one."""
    function, _, inner, _ = args
    if function.text not in _TENSOR_CALLS or type(inner) is not tuple:
        raise ValueError('a tensor of a subclass')
    return machine.call(function, inner)


def _no_weights(kind: str) -> Call:
    def refuse(machine: Unpickler, args: tuple) -> None:
        raise Refused(f'it holds a {kind} tensor; save plain tensors on the CPU')

    return refuse


# ---------------------------------------------------------------- numpy
def _dtype(machine: Unpickler, args: tuple) -> Stub:
    """A dtype of numpy; its byte order is in its state."""
    stub = Stub('numpy.dtype', args)
    if type(args[0]) is str and re.fullmatch(r'[iuf][1248]|b1|f16|c8|c16', args[0]):
        stub.value = np.dtype(args[0])
    return stub


def _array(machine: Unpickler, args: tuple) -> Stub:
    """An array without content; the content is in its state."""
    return Stub(_ARRAY)


def build_stub(machine: Unpickler, stub: Stub) -> None:
    """Build the object of a stub from the state that was just set."""
    if stub.name == 'numpy.dtype' and isinstance(stub.value, np.dtype):
        if type(stub.state) is tuple and len(stub.state) > 1 and stub.state[1] in ('<', '>'):
            stub.value = stub.value.newbyteorder(stub.state[1])
    elif stub.name == _ARRAY and type(stub.state) is tuple and len(stub.state) == 5:
        _, shape, dtype, in_columns, raw = stub.state
        _fill_array(machine, stub, shape, dtype, raw, 'F' if in_columns is True else 'C')


def _array_of_buffer(machine: Unpickler, args: tuple) -> Stub:
    """An array of pickle protocol 5: ``(bytes, dtype, shape, order)``."""
    raw, dtype, shape, order = args
    stub = Stub(_ARRAY, args)
    _fill_array(machine, stub, shape, dtype, raw, 'F' if order == 'F' else 'C')
    return stub


def _fill_array(machine: Unpickler, stub: Stub, shape: Any, dtype: Any, raw: Any, order: Literal['F', 'C']) -> None:
    """Build the array of a stub if it holds numbers."""
    if not isinstance(dtype, Stub) or not isinstance(dtype.value, np.dtype):
        return
    if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        raise ValueError('shape of an array')
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError('shape of an array')
    stub.value = _numbers(machine, dtype.value, raw).reshape(shape, order=order)


def _scalar(machine: Unpickler, args: tuple) -> Any:
    """A numpy scalar as a Python number."""
    dtype, raw = args
    if not isinstance(dtype, Stub) or not isinstance(dtype.value, np.dtype):
        return Stub('numpy.generic', (raw,))
    (value,) = _numbers(machine, dtype.value, raw)
    return value.item()


def _numbers(machine: Unpickler, dtype: np.dtype, raw: Any) -> np.ndarray:
    if type(raw) not in (bytes, str):
        raise ValueError('an array without bytes')
    machine.spend(len(raw))
    raw = raw.encode('latin-1') if type(raw) is str else raw  # Python 2
    return np.frombuffer(raw, dtype).astype(dtype.newbyteorder('='))  # a copy


# ---------------------------------------------------------------- containers and texts
def _ordered_dict(machine: Unpickler, args: tuple) -> dict:
    pairs = args[0] if args else []
    if type(pairs) is dict:
        return pairs
    if type(pairs) is not list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise ValueError('items of an OrderedDict')
    made: dict[str | int, Any] = {}
    machine.stack.append(made)
    machine.set_items([each for pair in pairs for each in pair])
    return machine.stack.pop()


def _list(machine: Unpickler, args: tuple) -> list:
    """A set or queue as a list, in the order of the file."""
    content = args[0] if args else []
    if type(content) is tuple:
        machine.spend(8 * len(content))
        return list(content)
    if type(content) is not list:
        raise ValueError('content of a set')
    return content


def _bytes(machine: Unpickler, args: tuple) -> bytes:
    text, encoding = args
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        raise ValueError('text to encode')
    machine.spend(len(text))
    return text.encode('latin-1')


def _bytearray(machine: Unpickler, args: tuple) -> bytes:
    content = args[0] if args else b''
    if type(content) is str:
        return _bytes(machine, args)
    if type(content) is not bytes:
        raise ValueError('content of a bytearray')
    return content


def _complex(machine: Unpickler, args: tuple) -> complex:
    real, imaginary = args
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError('parts of a complex number')
    return complex(real, imaginary)


def _same(kind: type) -> Call:
    """The argument itself, which must be of this type."""

    def give(machine: Unpickler, args: tuple) -> Any:
        if type(args[0]) is not kind:
            raise ValueError(f'expected a {kind.__name__}')
        return args[0]

    return give


def _reconstructed(machine: Unpickler, args: tuple) -> Stub:
    """An object of pickle protocols 0 and 1: ``(class, base, content)``."""
    kind, _, content = args
    machine.spend_copy(content)  # copied with this object, also if other objects share it
    stub = Stub(kind.text)
    stub.items = content if type(content) is dict else None
    stub.entries = content if type(content) is list else None
    return stub


def _stub(name: str) -> Call:
    return lambda machine, args: Stub(name, args)


_TENSOR_CALLS: dict[str, Callable[[Unpickler, tuple], Any]] = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _typed_tensor,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch.nn.parameter.Parameter': _parameter,
    'torch._utils._rebuild_qtensor': _no_weights('quantized'),
    'torch._utils._rebuild_sparse_tensor': _no_weights('sparse'),
    'torch._utils._rebuild_sparse_csr_tensor': _no_weights('sparse'),
    'torch._utils._rebuild_nested_tensor': _no_weights('nested'),
    'torch._utils._rebuild_meta_tensor_no_storage': _no_weights('meta'),
}

# data types that are pickled as calls
_DATA_CLASSES = (
    *(f'pathlib.{kind}Path' for kind in ('', 'Pure', 'Posix', 'PurePosix', 'Windows', 'PureWindows')),
    *(f'datetime.{kind}' for kind in ('date', 'time', 'datetime', 'timedelta', 'timezone')),
    *('builtins.slice', 'builtins.range', 'builtins.getattr', 'builtins.object', 'operator.getitem'),
    *('argparse.Namespace', 'uuid.UUID', 'decimal.Decimal', 'fractions.Fraction'),
    *(f'numpy.random._pickle.__{kind}_ctor' for kind in ('randomstate', 'generator', 'bit_generator')),
)

CALLS: dict[str, Call] = {
    **_TENSOR_CALLS,
    'torch._tensor._rebuild_from_type_v2': _of_subclass,
    'torch.Size': _same(tuple),
    'torch.device': _same(str),
    'torch.serialization._get_layout': _same(str),
    **{f'numpy.{home}.multiarray._reconstruct': _array for home in ('core', '_core')},
    **{f'numpy.{home}.multiarray.scalar': _scalar for home in ('core', '_core')},
    **{f'numpy.{home}.numeric._frombuffer': _array_of_buffer for home in ('core', '_core')},
    'numpy.dtype': _dtype,
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _ordered_dict,
    'collections.defaultdict': lambda machine, args: {},  # without its default factory
    'mmengine.config.config.ConfigDict': _ordered_dict,
    **dict.fromkeys(['collections.deque', 'builtins.set', 'builtins.frozenset', 'builtins.list'], _list),
    'builtins.dict': _ordered_dict,
    '_codecs.encode': _bytes,
    'builtins.bytearray': _bytearray,
    'builtins.complex': _complex,
    'copyreg._reconstructor': _reconstructed,
    **{name: _stub(name) for name in _DATA_CLASSES},
}


def storage_dtype(kind: Any) -> torch.dtype:
    """Element type of a storage class, by its name in a pickle.

    Raises:
        Refused: If the class is unknown, or its numbers are quantized.
    """
    name = kind.text if isinstance(kind, Name) else '?'
    if name not in STORAGE_TYPES:
        raise Refused(f'it holds tensors of an unsupported kind ({shown(name)})')
    return STORAGE_TYPES[name]
