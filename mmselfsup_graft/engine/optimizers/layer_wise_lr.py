"""Learning rate and weight decay by layer, as in Layer Grafted Pre-training."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmselfsup_graft.utils.suggestions import nearest

from .fused import build_optimizer
from .param_rules import multipliers, parse_rules

_PREFIX = 'backbone.'
_HEAD = 'head.'
_MISSPELLED = 0.85  # likeness of two names that differ in a letter or two
_LAYER_IDS = ('blocks', 'backbone')


def scales_from_list(values: Sequence[float], num_blocks: int) -> list[float]:
    """Learning-rate scale per layer id from one value per equal group of blocks.

    Layer 0 (stem) takes the first value; the final norm and all heads share the last one.

    Args:
        values: G values; the number of blocks must be divisible by G.
        num_blocks: Depth of the backbone.

    Returns:
        ``num_blocks + 2`` scales, indexed by layer id.

    Raises:
        ConfigError: If the list is empty, holds a negative value or does not divide the depth.
    """
    if not values or num_blocks % len(values):
        raise ConfigError(
            f'lr_layer_wise has {len(values)} values, which do not divide the {num_blocks} blocks of the backbone into '
            f'equal groups; give a number of values that divides {num_blocks}'
        )
    if min(values) < 0:
        raise ConfigError(f'lr_layer_wise holds a negative learning rate: {list(values)}')
    size = num_blocks // len(values)
    return [values[0], *(values[block // size] for block in range(num_blocks)), values[-1]]


def scales_from_decay(ratio: float, num_blocks: int) -> list[float]:
    """Learning-rate scale ``ratio ** (num_blocks + 1 - id)`` per layer id: 1 for heads, least for the stem.

    Raises:
        ConfigError: If the ratio is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f'layer_wise_decay_ratio must be in (0, 1], got {ratio}')
    return [ratio ** (num_blocks + 1 - layer) for layer in range(num_blocks + 2)]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerWiseLRConstructor(DefaultOptimWrapperConstructor):
    """Build parameter groups with a learning-rate scale per layer of the backbone.

    ``paramwise_cfg`` takes either

    - ``lr_layer_wise=[a, b, c]``: one value per equal group of blocks, see :func:`scales_from_list`, or
    - ``layer_wise_decay_ratio=r``: see :func:`scales_from_decay`.

    The optimizer's ``lr`` is multiplied by the scale. Tensors with at most one dimension are not decayed; nothing else
    is exempt by name, so the class token is decayed. Parameters without gradient are in no group. With neither key
    there is one group and everything is decayed, which is MoCo v3's behavior; ``no_decay_1d=True`` exempts 1-D
    tensors then, which is MAE's.

    Fine-tuning, where ``layer_wise_decay_ratio`` is BEiT's layer decay, has three more:

    - ``no_decay_names=['cls_token', ...]``: tensors whose name ends in one of these components are not decayed either;
    - ``full_rate_names=['cls_token', ...]``: tensors of the encoder with one of these components in their name learn
      at the full rate, whatever their layer (TEC's rule for its class token and the MLP after it);
    - ``head_lr_scale=f``: the rate of the head is ``f`` times that of its layer id.

    The published A2MIM and SimMIM recipes use names:

    - ``rules=[dict(match='regex', lr_mult=..., decay_mult=...), ...]``: ordered regular expressions, searched in the
      full name; every match applies, the later one wins, for each of the two factors. They multiply the layer's rate
      and the weight decay; tensors with at most one dimension and ``no_decay_names`` are not decayed in any case;
    - ``as_released=True``: the rules alone decide on weight decay, which then applies to norms that the published lists
      miss;
    - ``layer_ids='backbone'``: ``layer_wise_decay_ratio`` counts layers as the backbone's own ``get_layer_depth`` does
      (ConvNeXt of mmpretrain: 6 or 12 groups of blocks) instead of block by block.

    Raises:
        ConfigError: For both of the first two keys at once, unknown keys, a list that does not divide the depth, names
            that are not a list, a factor that is not a positive number, malformed rules, ``as_released`` without rules,
            or ``layer_ids`` that the backbone does not define.
    """

    PARAMWISE_KEYS = (
        'lr_layer_wise',
        'layer_wise_decay_ratio',
        'no_decay_1d',
        'no_decay_names',
        'full_rate_names',
        'head_lr_scale',
        'rules',
        'as_released',
        'layer_ids',
    )

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        options = dict(paramwise_cfg or {})
        unknown = sorted(set(options) - set(self.PARAMWISE_KEYS))
        if unknown:
            raise ConfigError(f'paramwise_cfg: unknown key {unknown[0]!r}; it takes {", ".join(self.PARAMWISE_KEYS)}')
        if 'lr_layer_wise' in options and 'layer_wise_decay_ratio' in options:
            raise ConfigError('paramwise_cfg: give lr_layer_wise or layer_wise_decay_ratio, not both')
        super().__init__(optim_wrapper_cfg, None)
        self.options = options
        self.no_decay_names = _names(options, 'no_decay_names')
        self.full_rate_names = _names(options, 'full_rate_names')
        self.head_lr_scale = _factor(options.get('head_lr_scale'))
        self.rules = parse_rules(options['rules']) if 'rules' in options else ()
        self.as_released = _as_released(options)
        self.layer_ids = _layer_ids(options)

    def layer_scales(self, model: nn.Module) -> list[float] | None:
        """Scale per layer id of ``model.backbone``; None if no layer-wise rule is configured."""
        num_blocks = self._layers(model).top - 1
        if 'lr_layer_wise' in self.options:
            return scales_from_list(self.options['lr_layer_wise'], num_blocks)
        if 'layer_wise_decay_ratio' in self.options:
            return scales_from_decay(self.options['layer_wise_decay_ratio'], num_blocks)
        return None

    def _layers(self, model: nn.Module) -> '_Layers':
        """Layer numbering of ``model.backbone``."""
        backbone: Any = model.backbone
        if self.layer_ids == 'blocks':
            depth = depth_of(backbone)
            return _Layers(depth.layer_id, depth.num_blocks + 1)
        try:
            _, count = backbone.get_layer_depth(_HEAD, _PREFIX)
        except (AttributeError, NotImplementedError) as error:
            raise ConfigError(
                f"paramwise_cfg.layer_ids='backbone' needs a backbone whose get_layer_depth returns its layers, which "
                f"{type(backbone).__name__}'s does not; use layer_ids='blocks'"
            ) from error
        return _Layers(lambda name: backbone.get_layer_depth(_PREFIX + name, _PREFIX)[0], count - 1)

    def param_groups(self, model: nn.Module) -> list[dict]:
        """One group per pair of learning rate and weight decay: fewer groups mean fewer kernel calls.

        Each has ``lr``, ``weight_decay``, ``lr_scale``, the ``layer_ids`` of its parameters (empty without a layer-wise
        rule) and their names. They are ordered by their first layer, decayed parameters first.
        """
        layers, scales = self._layers(model), self.layer_scales(model)
        base_lr, base_decay = self.optimizer_cfg['lr'], self.optimizer_cfg.get('weight_decay', 0.0)
        groups: dict[tuple[float, float], dict] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            layer = self._layer_id(name, layers) if scales is not None else 0
            in_head = self.head_lr_scale is not None and name.startswith(_HEAD)
            lr_mult, decay_mult = multipliers(self.rules, name)
            decay_mult = 0.0 if self._is_exempt(name, parameter, scales is not None) else decay_mult
            scale = (scales[layer] if scales is not None else 1.0) * lr_mult
            scale *= (in_head and self.head_lr_scale) or 1.0
            place = (layer, in_head, -decay_mult, -lr_mult)
            group = groups.setdefault(
                (scale, base_decay * decay_mult),
                {
                    'params': [],
                    'param_names': [],
                    'lr': base_lr * scale,
                    'lr_scale': scale,
                    'weight_decay': base_decay * decay_mult,
                    'layer_ids': [],
                    'place': place,
                },
            )
            group['params'].append(parameter)
            group['param_names'].append(name)
            group['place'] = min(group['place'], place)
            if scales is not None:
                group['layer_ids'] = sorted({*group['layer_ids'], layer})
        return sorted(groups.values(), key=lambda group: group.pop('place'))

    def layer_ids_of(self, model: nn.Module) -> dict[str, int]:
        """Name -> layer of every trainable parameter, which decides its rate."""
        layers = self._layers(model)
        return {name: self._layer_id(name, layers) for name, p in model.named_parameters() if p.requires_grad}

    def _layer_id(self, name: str, layers: '_Layers') -> int:
        """Layer that decides the rate of a parameter of the model."""
        at_full_rate = not name.startswith(_PREFIX) or bool(self.full_rate_names & set(name.split('.')))
        return layers.top if at_full_rate else layers.id_of(name[len(_PREFIX) :])

    def _is_exempt(self, name: str, parameter: nn.Parameter, layer_wise: bool) -> bool:
        """Whether a parameter is never decayed, whatever the rules are."""
        if self.as_released:
            return False
        by_size = layer_wise or bool(self.rules) or self.options.get('no_decay_1d', False)
        return (by_size and parameter.ndim <= 1) or name.rpartition('.')[2] in self.no_decay_names

    def _check_names(self, model: nn.Module) -> None:
        """Refuse a misspelled name: lists may hold names that a model does not have, unlike nearly those."""
        parts = {part for name, _ in model.named_parameters() for part in name.split('.')}
        for option, names in (('no_decay_names', self.no_decay_names), ('full_rate_names', self.full_rate_names)):
            for name in sorted(names):
                near = [] if name in parts else nearest(name, parts - set(names), cutoff=_MISSPELLED)
                if near:
                    raise ConfigError(
                        f'paramwise_cfg.{option} has {name!r}, which names no parameter (did you mean {near[0]!r}?)'
                    )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper and log the table of groups."""
        model = cast(nn.Module, model.module) if is_model_wrapper(model) else model
        self._check_names(model)
        groups = self.param_groups(model)
        print_log(groups_table(groups), logger='current')
        for group in groups:
            # names are for the table only: optimizers of some torch versions reject or duplicate them in checkpoints
            group.pop('param_names')
        optimizer = build_optimizer(self.optimizer_cfg, groups)
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.optim_wrapper_cfg}, default_args={'optimizer': optimizer}
        )


class _Layers(NamedTuple):
    """Layer numbering: the layer of a backbone's parameter, and that of everything after the last block."""

    id_of: Callable[[str], int]
    top: int


def _names(options: dict[str, Any], key: str) -> frozenset[str]:
    value = options.get(key, ())
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f'paramwise_cfg.{key} takes a list of names, got {value!r}')
    return frozenset(value)


def _factor(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
        raise ConfigError(f'paramwise_cfg.head_lr_scale must be a number > 0, got {value!r}')
    return None if value is None else float(value)


def _as_released(options: dict[str, Any]) -> bool:
    value = options.get('as_released', False)
    if not isinstance(value, bool):
        raise ConfigError(f'paramwise_cfg.as_released must be True or False, got {value!r}')
    if value and 'rules' not in options:
        raise ConfigError('paramwise_cfg.as_released=True leaves weight decay to the rules; give rules=[...]')
    return value


def _layer_ids(options: dict[str, Any]) -> str:
    value = options.get('layer_ids', _LAYER_IDS[0])
    if value not in _LAYER_IDS:
        raise ConfigError(f'paramwise_cfg.layer_ids is {value!r}; choose from {", ".join(_LAYER_IDS)}')
    if 'layer_ids' in options and 'layer_wise_decay_ratio' not in options:
        raise ConfigError('paramwise_cfg.layer_ids requires layer_wise_decay_ratio; set both')
    return value


def groups_table(groups: Sequence[dict]) -> str:
    """Readable table of parameter groups: layers, learning rate, decay, number of parameters."""
    texts = [_ranges(group['layer_ids']) for group in groups]
    width = max(map(len, ('layers', *texts)))
    lines = [
        'parameter groups',
        f'  {"layers":>{width}}  {"lr":>10}  {"scale":>9}  {"decay":>6}  {"tensors":>7}  {"params":>12}',
    ]
    for text, group in zip(texts, groups):
        size = sum(p.numel() for p in group['params'])
        lines.append(
            f'  {text:>{width}}  {group["lr"]:>10.3e}  {group["lr_scale"]:>9.3g}  '
            f'{group["weight_decay"]:>6g}  {len(group["params"]):>7}  {size:>12,}'
        )
    return '\n'.join(lines)


def _ranges(layer_ids: Sequence[int]) -> str:
    """``0-3,5`` for layers 0, 1, 2, 3 and 5; ``all`` for none, where no rate depends on the layer."""
    parts: list[list[int]] = []
    for layer in layer_ids:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ','.join(str(part[0]) if len(part) == 1 else f'{part[0]}-{part[-1]}' for part in parts) or 'all'
