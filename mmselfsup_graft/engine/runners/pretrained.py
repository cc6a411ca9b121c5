"""Pre-trained weights for parts of a detector or segmentor: safely read, completely loaded, and reported."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.checkpoints.convert import Conversion, convert
from mmselfsup_graft.checkpoints.formats import StateDict
from mmselfsup_graft.checkpoints.rename import grouped_names
from mmselfsup_graft.errors import CheckpointError, ConfigError

# backbones whose names are not mmpretrain's: (library, class) -> target of the converter
_TARGETS = {
    ('mmseg', 'VisionTransformer'): 'mmseg-vit',
    ('mmseg', 'MAE'): 'mmseg-mae',
    ('mmseg', 'BEiT'): 'mmseg-mae',
}


@dataclass
class PretrainedPart:
    """A part of a model that asks for a file of weights.

    Attributes:
        name: Where it stands in the model.
        module: The part.
        checkpoint: File of any known format, see :func:`mmselfsup_graft.checkpoints.read_encoder`.
        prefix: Only tensors under this name, without it; empty leaves finding the encoder to the format.
    """

    name: str
    module: nn.Module
    checkpoint: str
    prefix: str = ''


def take_pretrained(model: nn.Module) -> list[PretrainedPart]:
    """Find the parts with ``init_cfg=dict(type='Pretrained', ...)`` and take that from them.

    mmengine would load such a file itself: unpickled without limits, and whatever does not fit passed over in a line
    of the log. Addresses (``torchvision://resnet50``) are left to it.
    """
    model = cast(nn.Module, model.module) if is_model_wrapper(model) else model
    parts = []
    for name, module in model.named_modules():
        wanted = [cfg for cfg in _init_cfgs(module) if _is_local(cfg)]
        if not wanted:
            continue
        if len(wanted) > 1 or not isinstance(wanted[0].get('checkpoint'), str):
            raise ConfigError(f"{name}.init_cfg: give one dict(type='Pretrained', checkpoint=FILE)")
        module.init_cfg = [cfg for cfg in _init_cfgs(module) if cfg is not wanted[0]] or None
        prefix = wanted[0].get('prefix') or ''
        parts.append(PretrainedPart(name, module, wanted[0]['checkpoint'], prefix))
    return parts


def _init_cfgs(module: nn.Module) -> list[dict[str, Any]]:
    found: Any = getattr(module, 'init_cfg', None) or []
    return [found] if isinstance(found, dict) else list(found)


def _is_local(cfg: dict[str, Any]) -> bool:
    return cfg.get('type') == 'Pretrained' and '://' not in str(cfg.get('checkpoint', ''))


def load_pretrained(part: PretrainedPart) -> str:
    """Load the weights into the part, all of it; returns the report.

    Position tables are resized to the part's. Stages that the part does not have, norms after the last block and heads
    in the file are left out and reported.

    Raises:
        CheckpointError: If the file cannot be read, lacks a tensor of the part, has it in another shape, or holds a
            deeper network.
    """
    module = part.module
    done = _converted(part)
    wanted: StateDict = module.state_dict()
    given = done.state
    fresh = [name for name in wanted if name not in given and _may_stay_fresh(name, done, module)]
    _check_scales(part, fresh, wanted)
    problems = [_missing(name) for name in wanted if name not in given and name not in fresh]
    problems += [
        f'{name} is {_shape(given[name])} in the file and {_shape(value)} in the model'
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    stages = {name.partition('.')[0] for name in wanted}
    left = [name for name in given if name not in wanted]
    problems += [f'{name} of the file has no place in the model' for name in left if name.partition('.')[0] in stages]
    if problems:
        more = f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''
        raise CheckpointError(
            f'{part.checkpoint} does not fit {part.name} ({type(module).__name__}): {"; ".join(problems[:3])}{more}. '
            f'The file holds {done.architecture}'
        )
    module.load_state_dict({name: given[name] for name in wanted if name in given}, strict=False)
    return '\n'.join(_report(part, done, [name for name in wanted if name in given], fresh, left))


def _converted(part: PretrainedPart) -> Conversion:
    module, origin = part.module, part.checkpoint
    content = read_checkpoint(origin)
    if part.prefix:
        content = _below(content, part.prefix, origin)
    library = type(module).__module__.partition('.')[0]
    target = _TARGETS.get((library, type(module).__name__), 'mmpretrain')
    wanted = module.state_dict()
    final_norm = any(name.startswith('ln1.') for name in wanted)
    done = convert(content, origin, target, final_norm=final_norm)
    tables = r'(?:.*\.)?(pos_embed|relative_position_bias_table)$'
    given = done.state
    resized = [n for n in wanted if re.match(tables, n) and n in given and given[n].shape != wanted[n].shape]
    if not resized or given[resized[0]].shape[-1] != wanted[resized[0]].shape[-1]:
        return done
    return convert(content, origin, target, final_norm=final_norm, img_size=_img_size(module, done))


def _below(content: dict[str, Any], prefix: str, origin: str) -> dict[str, Any]:
    state = content.get('state_dict', content)
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        raise CheckpointError(
            f'{origin} has no tensor whose name begins with {prefix!r}; leave init_cfg.prefix out, encoders are found'
        )
    return found


def _img_size(module: Any, done: Conversion) -> tuple[int, int]:
    """Pixels for which a ViT was built."""
    patch = done.architecture.patch_size
    if hasattr(module, 'patch_resolution'):  # mmpretrain
        rows, columns = module.patch_resolution
        return rows * patch, columns * patch
    height, width = module.img_size  # mmseg
    return int(height), int(width)


def _may_stay_fresh(name: str, done: Conversion, module: Any) -> bool:
    naming = done.target.families[done.architecture.family]
    optional: tuple[str, ...] = tuple(getattr(module, 'graft_optional', ()))
    return bool(re.match(naming.fresh, name)) or name.endswith('num_batches_tracked') or name.startswith(optional)


def _check_scales(part: PretrainedPart, fresh: list[str], wanted: StateDict) -> None:
    """Layer scale that no file fills must be 1, or it shrinks what the pre-trained blocks say."""
    scales = [name for name in fresh if re.search(r'\.gamma_[12]$', name)]
    if any(not torch.equal(wanted[name], torch.ones_like(wanted[name])) for name in scales):
        raise CheckpointError(
            f'{part.checkpoint} has no layer scale and {part.name} ({type(part.module).__name__}) would start with one '
            'that is not 1, which destroys the features; set init_values=1.0'
        )


def _missing(name: str) -> str:
    return f'{name} of the model is not in the file'


def _shape(value: torch.Tensor) -> str:
    return ' x '.join(map(str, value.shape)) or 'a number'


def _report(
    part: PretrainedPart, done: Conversion, loaded: list[str], fresh: list[str], left: list[str]
) -> Iterator[str]:
    yield f'pre-trained weights of {part.name} ({type(part.module).__name__})'
    yield f'  {len(loaded):4d} tensors from {part.checkpoint} (format {done.format}, {done.branch} encoder)'
    resized = sorted({source for source, _, op in done.rows if 'resize' in op})
    if resized:
        yield f'  {len(resized):4d} of them resized: {grouped_names(resized, depth=2, most=4)}'
    if fresh:
        kinds = ', '.join(sorted({name.rpartition('.')[2] for name in fresh}))
        yield f'  {len(fresh):4d} tensors stay as initialised, as expected: {kinds}'
    unused = [*left, *done.dropped]
    if unused:
        yield f'  {len(unused):4d} tensors of the file have no place here: {grouped_names(unused, depth=2, most=8)}'
    if getattr(part.module, 'norm_eval', False):
        yield (
            '  warning: norm_eval=True keeps the batch statistics of pre-training. That suits supervised weights and '
            "costs self-supervised ones much accuracy: norm_cfg=dict(type='SyncBN'), norm_eval=False"
        )
