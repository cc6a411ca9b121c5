"""Values that a conversion computes instead of renaming them.

A conversion is a list of :class:`Entry`; every step takes such a list and returns a new one. Entries that a step
does not change are passed on.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from mmselfsup_graft.checkpoints.families import TIMM_PREFIX
from mmselfsup_graft.errors import CheckpointError

IDENTITY = 'identity'


@dataclass(frozen=True)
class Entry:
    """One tensor on its way from a file to a target.

    Args:
        name: Its name now.
        tensor: Its value now.
        origins: Names in the file that it was made from, each with what was done to it (``identity``: only renamed).
    """

    name: str
    tensor: torch.Tensor
    origins: tuple[tuple[str, str], ...]

    def changed(self, op: str, tensor: torch.Tensor, name: str | None = None) -> 'Entry':
        """The entry after one more operation."""
        origins = tuple((source, _joined(before, op)) for source, before in self.origins)
        return replace(self, name=name or self.name, tensor=tensor, origins=origins)


Entries = list[Entry]
Step = Callable[[Entries], Entries]


def _joined(first: str, second: str) -> str:
    return second if first == IDENTITY else f'{first}, {second}'


def _of(entries: Iterable[Entry]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


# ---------------------------------------------------------------- a model of timm
def take_timm_model(entries: Entries) -> Entries:
    """The tensors of the timm model inside of a backbone, under timm's own names."""
    inner = [entry for entry in entries if entry.name.startswith(TIMM_PREFIX)]
    return [replace(entry, name=entry.name.removeprefix(TIMM_PREFIX)) for entry in inner]


# ---------------------------------------------------------------- TEC's class token
# the MLP that it passes through; a plain encoder takes the output as its class token
TOKEN_MLP = 'cls_token_mlp.'


def merge_class_token(entries: Entries) -> Entries:
    """Replace TEC's class token by ``fc2(gelu(fc1(cls_token)))``, which is constant after training.

    Raises:
        CheckpointError: If the two layers are there but the class token or a part of them is not, or they do not fit.
    """
    by_name = _of(entries)
    if not any(name.startswith(TOKEN_MLP) for name in by_name):
        return entries
    parts = ['cls_token', *(f'{TOKEN_MLP}{layer}.{kind}' for layer in ('fc1', 'fc2') for kind in ('weight', 'bias'))]
    missing = [name for name in parts if name not in by_name]
    if missing:
        raise CheckpointError(f'the class token cannot be merged: {missing[0]} is missing; check the file')
    token, *layers = (by_name[name].tensor for name in parts)
    _check_token_mlp(token, *layers)
    weight1, bias1, weight2, bias2 = (value.float() for value in layers)
    merged = F.linear(F.gelu(F.linear(token.float(), weight1, bias1)), weight2, bias2).to(token.dtype)
    kept = [entry for entry in entries if not entry.name.startswith(TOKEN_MLP)]
    return [entry.changed('cls_token_mlp', merged) if entry.name == 'cls_token' else entry for entry in kept]


def _check_token_mlp(token: torch.Tensor, *layers: torch.Tensor) -> None:
    """Refuse layers that do not take the class token [..., D] to one of the same width."""
    shapes = [tuple(layer.shape) for layer in layers]
    width, hidden = token.shape[-1] if token.ndim else 0, shapes[0][0] if shapes[0] else 0
    if shapes != [(hidden, width), (hidden,), (width, hidden), (width,)]:
        raise CheckpointError(
            f'the class token cannot be merged: its shape {tuple(token.shape)} does not fit the two layers, whose '
            f'weights and biases have shapes {", ".join(map(str, shapes))}'
        )


# ---------------------------------------------------------------- attention
_QKV = re.compile(r'(layers\.\d+\.attn\.)qkv(\.(?:weight|bias))')
_QUERY = re.compile(r'(layers\.\d+\.attn\.)(query|key|value)(\.(?:weight|bias))')
_PARTS = ('query', 'key', 'value')


def _thirds(entry: Entry) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value part of a fused projection, by its rows."""
    if not entry.tensor.ndim or entry.tensor.shape[0] % 3:
        raise CheckpointError(
            f'{entry.name} has shape {tuple(entry.tensor.shape)}: its first size must be a multiple of 3, for query, '
            'key and value'
        )
    query, key, value = entry.tensor.chunk(3)
    return query, key, value


def split_qkv(entries: Entries) -> Entries:
    """Cut every fused projection [3 D, ...] into query, key and value [D, ...], in this order of rows.

    Raises:
        CheckpointError: If there are not three equal parts.
    """
    done: Entries = []
    for entry in entries:
        match = _QKV.fullmatch(entry.name)
        if not match:
            done.append(entry)
            continue
        for number, (part, rows) in enumerate(zip(_PARTS, _thirds(entry))):
            done.append(entry.changed(f'split_qkv:{number}', rows.clone(), f'{match[1]}{part}{match[2]}'))
    return done


def join_qkv(entries: Entries) -> Entries:
    """Stack query, key and value of every block into one projection: the reverse of :func:`split_qkv`.

    Raises:
        CheckpointError: If one of the three is missing, or their shapes differ.
    """
    by_name, done = _of(entries), []
    for entry in entries:
        match = _QUERY.fullmatch(entry.name)
        if not match:
            done.append(entry)
            continue
        names = [f'{match[1]}{part}{match[3]}' for part in _PARTS]
        missing = [name for name in names if name not in by_name]
        if missing:
            beit = (
                '; if it is a BEiT, whose keys have no bias, use the file of the release'
                if missing[0].endswith('bias')
                else ''
            )
            raise CheckpointError(f'query, key and value cannot be joined: {missing[0]} is missing{beit}')
        if match[2] == 'query':
            three = [by_name[name] for name in names]
            _check_equal_shapes(three)
            origins = tuple((s, _joined(op, f'join_qkv:{i}')) for i, e in enumerate(three) for s, op in e.origins)
            done.append(Entry(f'{match[1]}qkv{match[3]}', torch.cat([e.tensor for e in three]), origins))
    return done


def _check_equal_shapes(parts: list[Entry]) -> None:
    """Raise an error for parts of one fused tensor that differ in shape or have no rows."""
    shapes = {entry.name: tuple(entry.tensor.shape) for entry in parts}
    if len(set(shapes.values())) > 1 or () in shapes.values():
        listed = ', '.join(f'{name} {shape}' for name, shape in shapes.items())
        raise CheckpointError(f'these tensors must have equal shapes to be joined: {listed}')


_Q_BIAS = re.compile(r'(layers\.\d+\.attn\.)q_bias')


def fuse_qv_bias(entries: Entries) -> Entries:
    """Turn BEiT's ``q_bias`` and ``v_bias`` into a bias of the fused projection; keys have none there, so zeros.

    Raises:
        CheckpointError: If their shapes differ.
    """
    by_name, done = _of(entries), []
    for entry in entries:
        match = _Q_BIAS.fullmatch(entry.name)
        value = by_name.get(f'{match[1]}v_bias') if match else None
        if match and value is not None:
            _check_equal_shapes([entry, value])
            bias = torch.cat([entry.tensor, torch.zeros_like(entry.tensor), value.tensor])
            origins = tuple(
                (s, _joined(op, f'fuse_qv_bias:{i}')) for i, e in ((0, entry), (2, value)) for s, op in e.origins
            )
            done.append(Entry(f'{match[1]}qkv.bias', bias, origins))
        elif not entry.name.endswith('.attn.v_bias') or entry.name.replace('v_bias', 'q_bias') not in by_name:
            done.append(entry)
    return done


def split_qv_bias(entries: Entries) -> Entries:
    """Turn the fused bias of a ViT with relative positions into BEiT's ``q_bias`` and ``v_bias``.

    The part of the keys is left out: it adds the same number to all logits of a query, which softmax ignores.

    Raises:
        CheckpointError: If the bias has not three equal parts.
    """
    relative = {
        m[1] for e in entries if (m := re.fullmatch(r'(layers\.\d+\.attn\.)relative_position_bias_table', e.name))
    }
    done: Entries = []
    for entry in entries:
        match = _QKV.fullmatch(entry.name)
        if not match or match[2] != '.bias' or match[1] not in relative:
            done.append(entry)
            continue
        query, _, value = _thirds(entry)
        done.append(entry.changed('split_qv_bias:0', query.clone(), f'{match[1]}q_bias'))
        done.append(entry.changed('split_qv_bias:2', value.clone(), f'{match[1]}v_bias'))
    return done


_BEIT_SCALE = re.compile(r'(layers\.\d+\.)gamma_([12])')


def name_layer_scale(entries: Entries) -> Entries:
    """Give BEiT's names for layer scale to mmpretrain's plain ViT, unless the encoder is a BEiT."""
    if any(re.search(r'\.(q_bias|relative_position)', entry.name) for entry in entries):
        return entries
    done = []
    for entry in entries:
        match = _BEIT_SCALE.fullmatch(entry.name)
        part = {'1': 'attn.gamma1.weight', '2': 'ffn.gamma2.weight'}[match[2]] if match else ''
        done.append(replace(entry, name=f'{match[1]}{part}') if match else entry)
    return done


# ---------------------------------------------------------------- relative position tables
_SHARED = 'rel_pos_bias.'


def has_shared_table(entries: Entries) -> bool:
    """Whether all blocks share one relative position table."""
    return any(entry.name.startswith(_SHARED) for entry in entries)


def expand_shared_table(entries: Entries) -> Entries:
    """Give every block its own copy of the relative position table that all blocks share."""
    shared = [entry for entry in entries if entry.name.startswith(_SHARED)]
    if not shared:
        return entries
    matches = (re.match(r'layers\.(\d+)\.', entry.name) for entry in entries)
    blocks = sorted({int(match[1]) for match in matches if match})
    copies = [
        entry.changed('expand_shared', entry.tensor.clone(), f'layers.{i}.attn.{entry.name.removeprefix(_SHARED)}')
        for i in blocks
        for entry in shared
    ]
    return [entry for entry in entries if entry not in shared] + copies
