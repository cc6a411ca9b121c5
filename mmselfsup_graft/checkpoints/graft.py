"""Grafting: an encoder's weights from several checkpoints, by layer range.

A graft is data: ``[dict(checkpoint='mae.pth', layers=(0, 8)), dict(checkpoint='moco.pth', layers=(8, 12))]`` takes
blocks 0 to 7 and the stem from the first file, blocks 8 to 11 and the final norm from the second. Blocks
without a source keep their initial weights ("fresh").
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from mmselfsup_graft.checkpoints.formats.computed import TOKEN_MLP, expand_shared_table, merge_class_token
from mmselfsup_graft.checkpoints.formats.encoder import Encoder, StateDict, read_encoder
from mmselfsup_graft.checkpoints.formats.rename import grouped_names
from mmselfsup_graft.checkpoints.formats.traits import UNKNOWN, Traits, trait_problem
from mmselfsup_graft.errors import CheckpointError, ConfigError

from .depth import Depth, depth_from_names
from .families import TIMM_PREFIX
from .pos_embed import resize_position_table, resize_relative_table
from .timm_names import with_names_of
from .tokens import check_assumed
from .unplaced_tensors import explain_unplaced, has_remedy, unplaced

# batch-norm step counters are missing in files of old PyTorch versions and have no meaning in a grafted encoder
_NEVER_REQUIRED = ('num_batches_tracked',)
_RELATIVE_TABLE = 'relative_position_bias_table'
_EQUAL_EPS = 1e-6  # 1e-12 and 1e-6 give the same features up to rounding
# a function of the grid, computed by the backbone
_RELATIVE_INDEX = 'relative_position_index'


@dataclass(frozen=True)
class GraftSource:
    """One source of weights.

    Args:
        checkpoint: Path of the file.
        layers: Half-open range of blocks ``(start, stop)``; None for the whole encoder. A range that starts at 0
            includes the stem, one that stops at the depth includes the final norm.
        format: Format of the file, or ``auto``.
        branch: Which encoder of the file (``base`` or ``momentum``, ``teacher`` or ``student``); None takes the usual
            one of the format. Also a key of the file (``model_ema``) or a prefix of its names.
        unsafe_pickle: Allow the file to run code while it is read.
        grid: Patches per column and per row, (H, W), for which the position tables of the file are; None uses the
            value in the file, else a square.
        ignore: Name prefixes of tensors of the encoder that may be left out although they change its features.
    """

    checkpoint: str
    layers: tuple[int, int] | None = None
    format: str = 'auto'
    branch: str | None = None
    unsafe_pickle: bool = False
    grid: tuple[int, int] | None = None
    ignore: tuple[str, ...] = ()

    def layer_ids(self, num_blocks: int) -> range:
        """Layer ids that this source provides, see :class:`Depth`.

        Raises:
            ConfigError: If the range is empty or outside the backbone.
        """
        start, stop = self.layers if self.layers is not None else (0, num_blocks)
        if not 0 <= start < stop <= num_blocks:
            raise ConfigError(
                f'graft range layers=({start}, {stop}) of {self.checkpoint} does not fit a backbone of {num_blocks} '
                f'blocks; give 0 <= start < stop <= {num_blocks}'
            )
        return range(0 if start == 0 else start + 1, num_blocks + 2 if stop == num_blocks else stop + 1)


def parse_graft(entries: Sequence[Mapping[str, Any] | GraftSource]) -> list[GraftSource]:
    """Turn config dicts into sources.

    Raises:
        ConfigError: For unknown keys, a missing checkpoint or a malformed range.
    """
    sources = []
    for entry in entries:
        if isinstance(entry, GraftSource):
            sources.append(entry)
            continue
        if not isinstance(entry, Mapping):
            raise ConfigError(f'graft takes a list of dict(checkpoint=..., layers=...), got the entry {entry!r}')
        values = dict(entry)
        unknown = set(values) - set(GraftSource.__dataclass_fields__)
        if unknown or 'checkpoint' not in values:
            problem = f'unknown key {sorted(unknown)[0]!r}' if unknown else 'no checkpoint given'
            raise ConfigError(f'graft source: {problem}; keys are {", ".join(GraftSource.__dataclass_fields__)}')
        layers = values.get('layers')
        if layers is not None:
            if not isinstance(layers, list | tuple) or len(layers) != 2 or not all(type(n) is int for n in layers):
                raise ConfigError(f'graft source {values["checkpoint"]}: layers={layers!r} is not a (start, stop) pair')
            values['layers'] = tuple(layers)
        values['grid'] = _parse_grid(values.get('grid'), values['checkpoint'])
        values['ignore'] = _parse_ignore(values.get('ignore'), values['checkpoint'])
        sources.append(GraftSource(**values))
    return sources


def _parse_grid(value: Any, checkpoint: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(n) is int and n > 0 for n in value):
        raise ConfigError(f'graft source {checkpoint}: grid={value!r} is not a pair (H, W) of patches')
    return value[0], value[1]


def _parse_ignore(value: Any, checkpoint: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f'graft source {checkpoint}: ignore={value!r} is not a list of names')
    return tuple(value)


@dataclass
class LoadReport:
    """The source of every tensor; :meth:`text` is for the log."""

    loaded: dict[str, str] = field(default_factory=dict)
    resized: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    traits: dict[str, Traits] = field(default_factory=dict)

    def text(self) -> str:
        """Readable summary: tensors per source, fresh tensors, and unused tensors of each source."""
        lines = ['graft report']
        for origin, count in Counter(self.loaded.values()).items():
            lines.append(f'  {count:4d} tensors from {origin} (format {self.formats[origin]})')
            lines += [f'       {note}' for note in self.notes.get(origin, [])]
            unused = self.unused.get(origin, [])
            if unused:
                beside = grouped_names(unused, depth=2, most=8)
                lines.append(f'       {len(unused)} of its tensors are not part of this encoder: {beside}')
        lines += [f'       resized: {", ".join(self.resized)}'] if self.resized else []
        fresh = f': {grouped_names(self.fresh, depth=2, most=8)}' if self.fresh else ''
        lines.append(f'  {len(self.fresh):4d} tensors stay fresh{fresh}')
        return '\n'.join(lines)


def plan_graft(sources: Sequence[GraftSource], depth: Depth) -> dict[int, int]:
    """Assign every layer id that a source provides to the index of that source.

    Raises:
        ConfigError: If ranges overlap or leave the backbone.
    """
    plan: dict[int, int] = {}
    for index, source in enumerate(sources):
        for layer in source.layer_ids(depth.num_blocks):
            if layer in plan:
                other = sources[plan[layer]]
                raise ConfigError(
                    f'graft sources overlap: {source.checkpoint} layers={source.layers} and {other.checkpoint} '
                    f'layers={other.layers} both provide layer id {layer}'
                )
            plan[layer] = index
    return plan


def graft_weights(
    sources: Sequence[GraftSource],
    target: Mapping[str, torch.Tensor],
    depth: Depth,
    grid: tuple[int, int] | None = None,
    optional: tuple[str, ...] = (),
    traits: Traits = UNKNOWN,
) -> tuple[StateDict, LoadReport]:
    """Collect the weights of an encoder from its sources.

    Args:
        sources: The sources and their layers.
        target: State dict of the encoder to fill (names and shapes are read, values are not).
        depth: Depth of that encoder.
        grid: Patch grid (H, W) to which position tables of another size, absolute and relative, are resampled; None
            refuses that.
        optional: Name prefixes that a source may lack (mask tokens, for instance); they stay fresh.
        traits: Known properties of the encoder to fill besides its tensors, to compare with those of a source.

    Returns:
        The tensors to load (a subset of the target's names) and the report.

    Raises:
        ConfigError: For ranges that overlap or do not fit.
        CheckpointError: If a source cannot be read, lacks a tensor that it should provide or has it in another shape,
            holds tensors in its layers that the encoder cannot take and that change its features, or has another
            number of attention heads.
    """
    plan = plan_graft(sources, depth)
    encoders = [read_encoder(s.checkpoint, s.format, s.branch, s.unsafe_pickle, s.grid) for s in sources]
    encoders = [with_names_of(encoder, target) for encoder in encoders]
    labels = [s.checkpoint + (f' ({s.branch} encoder)' if s.branch else '') for s in sources]
    for encoder in encoders:
        _check_depth(encoder, depth)
        _check_traits(encoder, traits)
    if not any(name.startswith(TOKEN_MLP) for name in target):
        encoders = [replace(encoder, entries=merge_class_token(encoder.entries)) for encoder in encoders]
    if any(name.endswith(f'.attn.{_RELATIVE_TABLE}') for name in target):
        encoders = [replace(encoder, entries=expand_shared_table(encoder.entries)) for encoder in encoders]
    left = [_unplaced(source, encoder, target, depth) for source, encoder in zip(sources, encoders)]
    for encoder, names in zip(encoders, left):
        _refuse_unplaced(encoder, [name for name in names if has_remedy(name)])  # clearer than the missing names
    weights: StateDict = {}
    report = LoadReport(
        formats={label: e.format for label, e in zip(labels, encoders)},
        notes={label: [*e.notes, *_notes(e, traits)] for label, e in zip(labels, encoders)},
        traits={label: e.traits for label, e in zip(labels, encoders)},
    )
    problems: dict[str, list[str]] = {}
    for name, wanted in target.items():
        if name.endswith(_RELATIVE_INDEX):
            continue
        index = plan.get(depth.layer_id(name))
        if index is None:
            report.fresh.append(name)
            continue
        encoder = encoders[index]
        given = encoder.state.get(name)
        found = _fitting(given, wanted, name, grid, encoder)
        if found is not None and found.shape == wanted.shape:
            weights[name] = found
            report.loaded[name] = labels[index]
            report.resized += [name] if found is not given else []
        elif found is None and (name.endswith(_NEVER_REQUIRED) or name.startswith(optional)):
            report.fresh.append(name)
        else:
            problems.setdefault(encoder.origin, []).append(_describe(name, found, wanted))
    _explain_plain_class_token(problems)
    _raise_problems(problems)
    for encoder, names in zip(encoders, left):
        _refuse_unplaced(encoder, names)
    for label, encoder in zip(labels, encoders):
        used = {name for name, origin in report.loaded.items() if origin == label}
        beside = [n for n in encoder.state if n not in used and not n.endswith(_RELATIVE_INDEX)]
        report.unused[label] = [*beside, *encoder.dropped]
    return weights, report


def _explain_plain_class_token(problems: Mapping[str, list[str]]) -> None:
    """Raise a specific error if only TEC's MLP after the class token is missing."""
    for origin, found in problems.items():
        if all(problem.startswith(TOKEN_MLP) for problem in found):
            raise CheckpointError(
                f'{origin} holds a ViT with an ordinary class token, without the MLP that TEC adds after it '
                f'({found[0]} ...); set model.backbone.input_adaptor=False'
            )


def _check_depth(encoder: Encoder, depth: Depth) -> None:
    """Raise an error for an encoder of the same width with another depth."""
    try:
        found = depth_from_names(encoder.state)
    except ConfigError:
        return  # names of a backbone that defines its own depth
    if found.num_blocks != depth.num_blocks:
        raise CheckpointError(
            f'{encoder.origin} does not fit this backbone: it has {found.num_blocks} blocks, expected '
            f'{depth.num_blocks}; check the architecture and size of the checkpoint'
        )


def _check_traits(encoder: Encoder, wanted: Traits) -> None:
    """Raise an error for an encoder that differs in what no shape shows: heads, activation."""
    problem = trait_problem(encoder.traits, wanted)
    if problem:
        raise CheckpointError(f'{encoder.origin} does not fit this backbone: {problem}')


def _notes(encoder: Encoder, wanted: Traits) -> list[str]:
    eps = encoder.traits.norm_eps
    if eps is None or wanted.norm_eps is None or abs(eps - wanted.norm_eps) <= _EQUAL_EPS:
        return []
    return [f'warning: its layer norms have eps={eps:g}, those of this backbone {wanted.norm_eps:g}']


def _unplaced(source: GraftSource, encoder: Encoder, target: Collection[str], depth: Depth) -> list[str]:
    """Tensors in the layers of a source that the encoder to fill cannot take, unless the source ignores them."""
    provided = source.layer_ids(depth.num_blocks)
    return [
        name
        for name in unplaced(encoder.state, target)
        if (depth.layer_id(name) in provided or not depth.knows(name)) and not name.startswith(source.ignore or ('\0',))
    ]


def _refuse_unplaced(encoder: Encoder, names: Sequence[str]) -> None:
    """Raise an error for an encoder with tensors that cannot be taken and change its features.

    Raises:
        CheckpointError: If there are such tensors.
    """
    if names:
        registers = encoder.state.get('register_tokens')
        raise CheckpointError(
            f'{encoder.origin} holds {len(names)} tensors of the encoder that this backbone cannot take, so its '
            f'features would differ:  {explain_unplaced(names, 0 if registers is None else registers.shape[1])} '
            f'(set ignore=[...] in the graft source to leave them out anyway)'
        )


def _fitting(
    tensor: torch.Tensor | None, wanted: torch.Tensor, name: str, grid: tuple[int, int] | None, encoder: Encoder
) -> torch.Tensor | None:
    """The tensor, resized if it is a position table for another grid of patches."""
    if tensor is None or tensor.ndim < 2 or tensor.ndim != wanted.ndim or tensor.shape[-1] != wanted.shape[-1]:
        return tensor
    if grid is None and name == 'absolute_pos_embed':  # of mmdet's Swin, for instance
        raise CheckpointError(
            f'{encoder.origin} does not fit this backbone: {name} is for a fixed grid, which the class of the '
            'backbone does not define; use mmpretrain.SwinTransformer'
        )
    if grid is None:
        return tensor
    source, patches = encoder.traits.grid, grid[0] * grid[1]
    rows = wanted.shape[1] - patches
    name = name.removeprefix(TIMM_PREFIX)
    if name == 'pos_embed' and rows == 1 and not {'cls_token', f'{TIMM_PREFIX}cls_token'} & set(encoder.state):
        return tensor  # without a row for the class token, which is missing as well
    try:
        if name in ('pos_embed', 'absolute_pos_embed'):
            check_assumed(encoder.entries, source, grid)
            return resize_position_table(tensor, grid, rows, source)
        if name.endswith(_RELATIVE_TABLE) and not name.startswith('stages.'):  # of a ViT; those of Swin are per window
            return resize_relative_table(tensor, grid, len(wanted) - (2 * grid[0] - 1) * (2 * grid[1] - 1), source)
    except CheckpointError as error:
        raise CheckpointError(f'{encoder.origin} does not fit this backbone: {error}') from error
    return tensor


def _describe(name: str, found: torch.Tensor | None, wanted: torch.Tensor) -> str:
    if found is None:
        return f'{name} is missing'
    return f'{name} has shape {tuple(found.shape)}, expected {tuple(wanted.shape)}{_window_of(name, found)}'


def _window_of(name: str, found: torch.Tensor) -> str:
    """Window size of a relative position table of Swin, an option of the backbone."""
    side = round(found.shape[0] ** 0.5) if found.ndim == 2 else 0
    if not (name.startswith('stages.') and name.endswith(_RELATIVE_TABLE) and side**2 == found.shape[0]):
        return ''
    return f' (of windows of {(side + 1) // 2} x {(side + 1) // 2} patches: window_size={(side + 1) // 2})'


def _raise_problems(problems: dict[str, list[str]]) -> None:
    if problems:
        origin, lines = next(iter(problems.items()))
        more = f' and {len(lines) - 3} more' if len(lines) > 3 else ''
        raise CheckpointError(
            f'{origin} does not fit this backbone: {"; ".join(lines[:3])}{more}; '
            'check the architecture and size of the checkpoint'
        )
