"""Pre-trained weights for parts of a detector or segmentor: safely read, completely loaded, and reported."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from mmselfsup_graft.checkpoints import check_fit, read_checkpoint, traits_of
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import convert
from mmselfsup_graft.checkpoints.formats.encoder import StateDict, unwrap_state_dict
from mmselfsup_graft.checkpoints.formats.rename import grouped_names
from mmselfsup_graft.checkpoints.formats.traits import Traits, patch_grid, read_traits, trait_problem
from mmselfsup_graft.checkpoints.pos_embed import resize_position_table, resize_relative_table
from mmselfsup_graft.checkpoints.unplaced_tensors import explain_unplaced, has_remedy, unplaced
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.libraries.weight_files import is_address, refuse_address
from mmselfsup_graft.models.foreign_weights import is_pretrained_init

# backbones whose names are not mmpretrain's: (library, class) -> target of the converter
_TARGETS = {
    ('mmseg', 'VisionTransformer'): 'mmseg-vit',
    ('mmseg', 'MAE'): 'mmseg-mae',
    ('mmseg', 'BEiT'): 'mmseg',
}
# stages that a part may do without, as a detector's head that has the last one alone
_STAGE = re.compile(r'(conv1|bn1|layer\d+|stages\.\d+|downsample_layers\.\d+)\.')
_PATCH_BIAS = 'patch_embed.projection.bias'  # which mmseg's ViT leaves out unless told
_EPS = 1e-6  # of the layer norms of every ViT that was pre-trained


@dataclass
class PretrainedPart:
    """A part of a model that asks for a file of weights.

    Attributes:
        name: Where it stands in the model.
        module: The part.
        checkpoint: File of any known format or ``zoo:NAME``, see :func:`mmselfsup_graft.checkpoints.read_encoder`.
        prefix: Only tensors under this name, without it; empty leaves finding the encoder to the format.
    """

    name: str
    module: nn.Module
    checkpoint: str
    prefix: str = ''


def take_pretrained(model: nn.Module) -> list[PretrainedPart]:
    """Find the parts with ``init_cfg`` of type ``Pretrained``, in whatever form, and take that from them.

    mmengine would load such a file itself and pass over whatever does not fit in a line of the log. Lists, the
    ``override`` of another entry, and every name and class of :class:`mmengine.model.PretrainedInit` count.
    """
    model = cast(nn.Module, model.module) if is_model_wrapper(model) else model
    parts = []
    for name, module in model.named_modules():
        entries = list(_init_cfgs(getattr(module, 'init_cfg', None)))
        found = [*_take_overrides(name, module, entries)]
        wanted = [cfg for cfg in entries if is_pretrained_init(cfg)]
        if len(wanted) > 1 or any(not isinstance(cfg.get('checkpoint'), str) for cfg in wanted):
            raise ConfigError(f"{name or 'model'}.init_cfg: give one dict(type='Pretrained', checkpoint=FILE)")
        found += [_part(name, module, cfg) for cfg in wanted]
        if found:
            rest: Any = [cfg for cfg in entries if not is_pretrained_init(cfg)]
            module.init_cfg = rest or None
        parts += found
    return parts


def _part(name: str, module: nn.Module, cfg: Mapping[str, Any]) -> PretrainedPart:
    return PretrainedPart(name or 'the model', module, cfg['checkpoint'], cfg.get('prefix') or '')


def _init_cfgs(value: Any) -> Iterator[dict[str, Any]]:
    """All entries, those of lists inside lists too."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _init_cfgs(each)


def _take_overrides(name: str, module: nn.Module, entries: list[dict[str, Any]]) -> Iterator[PretrainedPart]:
    """Parts that the ``override`` of an entry names; they are taken out of the entries, in place."""
    for position, cfg in enumerate(entries):
        overrides = list(_init_cfgs(cfg.get('override')))
        wanted = [each for each in overrides if is_pretrained_init(each)]
        for each in wanted:
            part = getattr(module, str(each.get('name')), None)
            if not isinstance(part, nn.Module) or not isinstance(each.get('checkpoint'), str):
                raise ConfigError(
                    f'{name or "model"}.init_cfg.override: a Pretrained entry needs the name of a part and a '
                    f'checkpoint=FILE, got {each.get("name")!r} and {each.get("checkpoint")!r}'
                )
            yield _part(f'{name}.{each["name"]}'.lstrip('.'), part, each)
        if wanted:
            rest: Any = [each for each in overrides if not is_pretrained_init(each)]
            entries[position] = {k: v for k, v in cfg.items() if k != 'override'} | ({'override': rest} if rest else {})


def load_pretrained(part: PretrainedPart) -> str:
    """Load the weights into the part, all of it; returns the report.

    Position tables are resized to the part's. Stages that the part does not have, norms after the last block and heads
    in the file are left out and reported. A backbone that no format knows is loaded if the file has its very names.

    Raises:
        CheckpointError: If it is an address, cannot be read, lacks a tensor of the part, has it in another shape, or
            holds a deeper network.
    """
    part = replace(part, checkpoint=resolve_zoo(part.checkpoint))
    content = _content(part)
    try:
        found = _converted(part, content)
        problems = _problems(part, found)
    except CheckpointError:
        exact = _as_named(part, content)
        if exact is None:
            raise
        found, problems = exact, []
    if problems:
        more = f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''
        raise CheckpointError(
            f'{part.checkpoint} does not fit {part.name} ({type(part.module).__name__}): '
            f'{"; ".join(problems[:3])}{more}. The file holds {found.about}'
        )
    wanted = part.module.state_dict()
    part.module.load_state_dict({name: found.state[name] for name in wanted if name in found.state}, strict=False)
    return '\n'.join(_report(part, found))


@dataclass
class _Found:
    """What a file has for a part.

    Attributes:
        state: Tensors under the names of the part.
        about: The network that the file holds, in words.
        format: How the file names it, in words.
        fresh: Names of the part that the file need not fill.
        unused: Names in the file that are no part of its encoder.
        resized: Names in the file of tables that were resized.
        notes: What to say about the place where it was found.
    """

    state: StateDict
    about: str
    format: str
    fresh: list[str]
    unused: list[str]
    resized: list[str]
    notes: tuple[str, ...] = ()


def _content(part: PretrainedPart) -> dict[str, Any]:
    """The file, or what lies in it below the prefix."""
    if is_address(part.checkpoint):
        raise refuse_address(part.checkpoint)
    if not Path(part.checkpoint).is_file():
        raise CheckpointError(
            f'the pre-trained weights of {part.name}, {part.checkpoint}, do not exist; name the file as '
            f'--pretrained FILE (tools/train.py) or in {part.name}.init_cfg.checkpoint'
        )
    content = read_checkpoint(part.checkpoint)
    if not part.prefix:
        return content
    prefix = part.prefix if part.prefix.endswith('.') else f'{part.prefix}.'
    state = unwrap_state_dict(content, origin=part.checkpoint)
    below = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    if not below:
        raise CheckpointError(
            f'{part.checkpoint} has no tensor whose name begins with {prefix!r}; leave init_cfg.prefix out, encoders '
            'are found without it'
        )
    meta = content.get('meta')
    return {'state_dict': below, **({'meta': meta} if meta else {})}


def _converted(part: PretrainedPart, content: dict[str, Any]) -> _Found:
    """The encoder of a file of a known format, for the part's class and image size."""
    module, wanted = part.module, part.module.state_dict()
    library = type(module).__module__.partition('.')[0]
    target = _TARGETS.get((library, type(module).__name__), 'mmpretrain')
    final_norm = any(name.startswith(('ln1.', 'ln2.')) for name in wanted)
    done = convert(content, part.checkpoint, target, final_norm=final_norm)
    given = done.state
    tables = [n for n in wanted if n in given and _is_table(n)]
    # also where the shapes agree: the grid may be another one of as many patches
    if any(given[n].shape[-1] == wanted[n].shape[-1] for n in tables):
        size = _img_size(part, done.architecture.patch_size)
        done = convert(content, part.checkpoint, target, final_norm=final_norm, img_size=size)
    _check_traits(part, replace(done.traits, num_heads=done.architecture.num_heads or None))
    naming = done.target.families[done.architecture.family]
    optional: tuple[str, ...] = tuple(getattr(module, 'graft_optional', ()))
    given = done.state
    absent = [name for name in wanted if name not in given]
    return _Found(
        given,
        str(done.architecture),
        f'format {done.format}, {done.branch} encoder',
        [n for n in absent if re.match(naming.fresh, n) or _is_counter(n) or (optional and n.startswith(optional))],
        list(done.dropped),
        sorted({source for source, _, op in done.rows if 'resize' in op}),
        done.notes,
    )


def _check_traits(part: PretrainedPart, told: Traits) -> None:
    """Refuse an encoder that differs in what no shape shows: heads, activation."""
    problem = trait_problem(told, traits_of(part.module))
    if problem:
        raise CheckpointError(f'{part.checkpoint} does not fit {part.name} ({type(part.module).__name__}): {problem}')


def _is_counter(name: str) -> bool:
    return name.endswith('num_batches_tracked')


def _is_table(name: str) -> bool:
    """Whether a tensor is a table of positions on the grid of patches; Swin's relative ones are of windows."""
    relative = name.endswith('relative_position_bias_table') and not name.startswith('stages.')
    return relative or name in ('pos_embed', 'absolute_pos_embed')


def _grid(part: PretrainedPart) -> tuple[int, int]:
    """Grid of patches (H, W) for which the part's tables are.

    Raises:
        CheckpointError: If its class does not expose it.
    """
    module: Any = part.module
    grid = patch_grid(module)
    if grid is None and hasattr(module, 'img_size') and hasattr(module, 'patch_size'):  # mmseg, without absolute ones
        grid = (module.img_size[0] // module.patch_size, module.img_size[1] // module.patch_size)
    if grid is None:
        raise CheckpointError(
            f'{part.checkpoint} cannot be loaded into {part.name} ({type(module).__module__}.{type(module).__name__}): '
            'its position table fits one grid of patches, but this class does not expose its grid; use the class of '
            'the same name in mmpretrain'
        )
    return grid


def _img_size(part: PretrainedPart, patch_size: int) -> tuple[int, int]:
    """Image size (pixels) of a part with position tables."""
    rows, columns = _grid(part)
    return rows * patch_size, columns * patch_size


def _as_named(part: PretrainedPart, content: dict[str, Any]) -> _Found | None:
    """The tensors of a file that has the very names and shapes of the part; None if it has not.

    Raises:
        CheckpointError: If their values cannot be used, the file tells another number of attention heads, or nothing
            tells for which grid its position table is.
    """
    state, wanted = unwrap_state_dict(content), part.module.state_dict()
    for prefix in ('', 'module.', 'backbone.'):
        given = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        fits = all(_is_counter(n) or (n in given and given[n].shape == v.shape) for n, v in wanted.items())
        if fits and not _of_deeper_network(given, wanted):
            fresh = [name for name in wanted if name not in given]
            unused = [name for name in state if name.removeprefix(prefix) not in wanted]
            traits = read_traits(content, part.checkpoint)
            kept = {name: value for name, value in given.items() if name in wanted}
            check_fit(part.checkpoint, kept, {name: wanted[name] for name in kept})
            _check_traits(part, traits)
            placed = {name: _on_grid(part, name, value, traits.grid) for name, value in kept.items()}
            resized = [name for name, value in placed.items() if value is not kept[name]]
            return _Found(placed, 'just these names', 'named as in the model', fresh, unused, resized)
    return None


def _on_grid(part: PretrainedPart, name: str, value: torch.Tensor, source: tuple[int, int] | None) -> torch.Tensor:
    """A tensor of the part's shape; a table for another grid of as many patches is resized.

    Raises:
        CheckpointError: If nothing tells for which grid it is.
    """
    if not _is_table(name) or value.ndim > 3:  # more dimensions show the grid
        return value
    grid = _grid(part)
    if name.endswith('relative_position_bias_table'):
        return resize_relative_table(value, grid, len(value) - (2 * grid[0] - 1) * (2 * grid[1] - 1), source)
    if source is not None and source[0] * source[1] != grid[0] * grid[1]:
        source = None  # of another encoder in the file
    return resize_position_table(value, grid, value.shape[1] - grid[0] * grid[1], source)


def _of_deeper_network(given: StateDict, wanted: StateDict) -> list[str]:
    """Tensors of the file without a place, in a stage that the part has: those of a deeper network."""
    stages = {name.partition('.')[0] for name in wanted}
    return [name for name in unplaced(given, wanted) if name.partition('.')[0] in stages or not _STAGE.match(name)]


def _problems(part: PretrainedPart, found: _Found) -> list[str]:
    """Why the file cannot fill the part."""
    wanted, given = part.module.state_dict(), found.state
    beyond = _of_deeper_network(given, wanted)
    explained = [name for name in beyond if has_remedy(name) and name != _PATCH_BIAS]
    problems = _explained(explained, given)  # first, as it tells more than what is missing
    problems += [f'{n} of the model is not in the file' for n in wanted if n not in given and n not in found.fresh]
    problems += [
        f'{name} is {_shape(given[name])} in the file and {_shape(value)} in the model'
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    for name in beyond:
        if name not in explained:
            remedy = ' (set patch_bias=True)' if name == _PATCH_BIAS else ''
            problems.append(f'{name} of the file has no place in the model{remedy}')
    scales = [name for name in found.fresh if re.search(r'\.gamma_[12]$', name)]
    if any(not torch.equal(wanted[name], torch.ones_like(wanted[name])) for name in scales):
        problems.append(
            'the file has no layer scale and the model would start with one that is not 1, which destroys the features '
            '(set init_values=1.0)'
        )
    return problems


def _explained(names: list[str], given: StateDict) -> list[str]:
    registers = given.get('register_tokens')
    count = 0 if registers is None else registers.shape[1]
    return [f'{names[0]} of the file has no place in the model: {explain_unplaced(names, count)}'] if names else []


def _shape(value: torch.Tensor) -> str:
    return ' x '.join(map(str, value.shape)) or 'a number'


def _report(part: PretrainedPart, found: _Found) -> Iterator[str]:
    wanted = part.module.state_dict()
    yield f'pre-trained weights of {part.name} ({type(part.module).__name__})'
    yield f'  {sum(n in found.state for n in wanted):4d} tensors from {part.checkpoint} ({found.format})'
    yield from (f'       {note}' for note in found.notes)
    if found.resized:
        yield f'  {len(found.resized):4d} of them resized: {grouped_names(found.resized, depth=2, most=4)}'
    if found.fresh:
        kinds = ', '.join(sorted({name.rpartition('.')[2] for name in found.fresh}))
        yield f'  {len(found.fresh):4d} tensors stay as initialized, as expected: {kinds}'
    unused = [*(n for n in found.state if n not in wanted), *found.unused]
    if unused:
        yield f'  {len(unused):4d} tensors of the file have no place here: {grouped_names(unused, depth=2, most=8)}'
    if getattr(part.module, 'norm_eval', False):
        yield (
            '  warning: norm_eval=True keeps the batch statistics of pre-training. That suits supervised weights and '
            "costs self-supervised ones much accuracy: norm_cfg=dict(type='SyncBN'), norm_eval=False"
        )
    if any('.attn.' in name for name in wanted):
        others = {m.eps for m in part.module.modules() if isinstance(m, nn.LayerNorm)} - {_EPS}
        if others:
            yield (
                f'  warning: layer norms with eps={others.pop():g} change the features of a ViT that was trained with '
                f"{_EPS:g}: norm_cfg=dict(type='LN', eps={_EPS:g})"
            )
