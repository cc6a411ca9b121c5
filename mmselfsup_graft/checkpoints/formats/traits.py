"""Properties of an encoder that no tensor shows: heads, grid of patches, norms, activation, normalization of images.

A run of this toolbox writes it into its checkpoints as ``meta['encoder']``, a dict of plain values. Older files hold
the run's config as text; that text is parsed as data and never executed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mmselfsup_graft.checkpoints.families import FAMILIES
from mmselfsup_graft.errors import CheckpointError

from .literal_config import literal_config
from .stated import activation_name, mapping_in, pair_of, stated_values
from .timm_call import checked_timm_call

# heads of the architectures that configs name: (width, heads), see the arch_zoo of SelfSupViT
ARCH_HEADS = {
    's': (768, 8),
    'small': (768, 8),
    'b': (768, 12),
    'base': (768, 12),
    'l': (1024, 16),
    'large': (1024, 16),
    'h': (1280, 16),
    'huge': (1280, 16),
    'eva-g': (1408, 16),
    'eva-giant': (1408, 16),
    'deit-t': (192, 3),
    'deit-tiny': (192, 3),
    'deit-s': (384, 6),
    'deit-small': (384, 6),
    'dinov2-s': (384, 6),
    'dinov2-small': (384, 6),
    'deit-b': (768, 12),
    'deit-base': (768, 12),
    'dinov2-g': (1536, 24),
    'dinov2-giant': (1536, 24),
    'mocov3-small': (384, 12),
}
_TEXTS = ('cfg', 'config')  # where mmengine keeps the config
_STYLES = ('pytorch', 'caffe')
_FEATURE_OF_OUTPUT = {'cls_token': 'class_token', 'featmap': 'patch_mean', 'avg_featmap': 'patch_mean'}
_ACTIVATIONS = ('GELU', 'QuickGELU', 'ReLU', 'SiLU', 'Swish')
_CONV = tuple(each.class_name for each in FAMILIES.values() if not each.is_vit)  # their maps have no fixed grid


@dataclass(frozen=True)
class Traits:
    """Properties of an encoder besides its tensors; None if unknown.

    Args:
        num_heads: Attention heads, the same in all blocks.
        grid: Patches per column and per row, (H, W), for which position tables are.
        img_size: (H, W) of the images in pixels.
        norm_eps: Epsilon of the layer norms.
        mean: Subtracted from the pixels, per channel, 0..255.
        std: Divided by, likewise.
        act: Activation of the feed-forward layers, as named by :func:`.stated.activation_name`.
        style: Place of the strides of a ResNet's bottlenecks: ``pytorch`` (3 x 3 convolution) or ``caffe`` (the
            1 x 1 before it).
        strides: Of the stages of a ResNet, like ``dilations``; not compared, as a backbone for segmentation may differ.
        dilations: Of the convolutions in each stage.
        timm: The call of ``timm.create_model`` that builds the model: ``model_name`` and further plain arguments.
        feature: The feature that the encoder was trained to give, where its class has several: ``class_token`` or
            ``patch_mean``.
        patch: Pixels of a patch, (H, W), and from one patch to the next, (H, W). Of a built backbone, not stored: in a
            file the tensors show the first, images and grid the second.
    """

    num_heads: int | None = None
    grid: tuple[int, int] | None = None
    img_size: tuple[int, int] | None = None
    norm_eps: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    act: str | None = None
    style: str | None = None
    strides: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None
    timm: Mapping[str, Any] | None = None
    feature: str | None = None
    patch: tuple[tuple[int, int], tuple[int, int]] | None = None

    def as_meta(self) -> dict[str, Any]:
        """Plain values for ``meta['encoder']``; unknown ones are left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != 'patch'}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}

    def overlapping(self, patch_size: int) -> bool:
        """Whether patches of so many pixels overlap, or leave gaps, by the size of the images and the grid."""
        return not self.has_patches((patch_size, patch_size), (patch_size, patch_size))

    def has_patches(self, size: tuple[int, int], stride: tuple[int, int]) -> bool:
        """Whether the grid can be that of patches of this size and stride; True if grid or image size is unknown."""
        if self.img_size is None or self.grid is None:
            return True
        return all(
            # the rest of the image left out, filled up, or patches at every multiple of the stride
            count in ((side - patch) // step + 1, -((patch - side) // step) + 1, -(-side // step))
            for side, count, patch, step in zip(self.img_size, self.grid, size, stride)
        )


UNKNOWN = Traits()


# ---------------------------------------------------------------- of a built model
def traits_of(model: nn.Module) -> Traits:
    """Traits of a built backbone, or of a model that has one and a preprocessor."""
    backbone: Any = getattr(model, 'backbone', model)
    heads = {m.num_heads for m in backbone.modules() if isinstance(getattr(m, 'num_heads', None), int)}
    eps = {module.eps for module in backbone.modules() if isinstance(module, nn.LayerNorm)}
    grid = patch_grid(backbone)
    size = getattr(backbone, 'img_size', None) if grid else None
    mean, std = _normalization(getattr(model, 'data_preprocessor', None))
    style = getattr(backbone, 'style', None)
    resnet = backbone if style in _STYLES else None
    return Traits(
        num_heads=heads.pop() if len(heads) == 1 else None,
        grid=grid,
        img_size=pair_of(size),
        norm_eps=eps.pop() if len(eps) == 1 else None,
        mean=mean,
        std=std,
        act=acts.pop() if len(acts := _activations(backbone)) == 1 else None,
        style=style if resnet else None,
        strides=_whole_numbers(getattr(resnet, 'strides', None)),
        dilations=_whole_numbers(getattr(resnet, 'dilations', None)),
        timm=getattr(backbone, 'timm_call', None),
        feature=_feature_of(getattr(backbone, 'out_type', None)),
        patch=_patch(backbone) if grid else None,
    )


def _feature_of(out_type: Any) -> str | None:
    return _FEATURE_OF_OUTPUT.get(out_type) if isinstance(out_type, str) else None


def _patch(backbone: Any) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Size and stride of a backbone's patches; None if no single convolution makes them."""
    layer = getattr(getattr(backbone, 'patch_embed', None), 'projection', None)
    size, stride = pair_of(getattr(layer, 'kernel_size', None)), pair_of(getattr(layer, 'stride', None))
    return (size, stride) if size and stride else None


def _activations(backbone: nn.Module) -> set[str]:
    """Activations of a backbone's layers."""
    found = set()
    for module in backbone.modules():
        kind = type(module).__name__
        if kind in _ACTIVATIONS:
            tanh = getattr(module, 'approximate', 'none') == 'tanh'
            found.add('gelu_tanh' if tanh else str(activation_name(kind)))
    return found


def patch_grid(backbone: Any) -> tuple[int, int] | None:
    """Grid of patches (H, W) for which a transformer's position tables are; None for other backbones."""
    grid = getattr(backbone, 'patch_resolution', None)
    if grid is None and getattr(backbone, 'absolute_pos_embed', None) is not None:  # Swin
        grid = backbone.patch_embed.init_out_size
    if grid is None and getattr(backbone, 'pos_embed', None) is not None:  # mmseg
        size, patch = pair_of(getattr(backbone, 'img_size', None)), pair_of(getattr(backbone, 'patch_size', None))
        grid = (size[0] // patch[0], size[1] // patch[1]) if size and patch else None
    return pair_of(grid)


def _normalization(preprocessor: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None or not getattr(preprocessor, '_enable_normalize', True):
        return None, None
    return _numbers(mean.flatten().tolist()), _numbers(std.flatten().tolist())


def _numbers(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple) or not value:
        return None
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value)
    return tuple(round(float(v), 6) for v in value) if good else None


# ---------------------------------------------------------------- of a file
def read_traits(content: Mapping[str, Any], origin: str) -> Traits:
    """Traits stored in a checkpoint: ``meta['encoder']``, else from its config, read as plain data.

    Raises:
        CheckpointError: If ``meta['encoder']`` or a file beside the checkpoint holds impossible values.
    """
    meta = mapping_in(content, 'meta')
    told = meta.get('encoder')
    if isinstance(told, Mapping):
        return _checked({key: (value, f"meta['encoder'][{key!r}]") for key, value in told.items()}, origin)
    for key in _TEXTS:
        if isinstance(meta.get(key), str):
            return _from_config(literal_config(meta[key]))
    return _checked(stated_values(content), origin)


def trait_problem(told: Traits, own: Traits) -> str:
    """Why an encoder with the first traits has other features in a backbone with the second; empty if nothing shows it.

    Args:
        told: Traits of the file.
        own: Traits of the backbone.
    """
    if own.patch is not None and not told.has_patches(*own.patch):
        shown = (*(told.grid or ()), *(told.img_size or ()), *own.patch[1])
        return (
            'it has {} x {} patches in images of {} x {} pixels, which contradicts the stride of {} x {} pixels of '
            'this backbone; set its stride (patch_cfg of a ViT)'.format(*shown)
        )
    for name, words, remedy in (
        ('num_heads', 'attention heads', 'set num_heads={} in the arch of the backbone'),
        ('act', 'as activation', 'set act_cfg=dict(type=...) for {} in the backbone (layer_cfgs of a ViT)'),
        ('style', 'as style of its bottlenecks', "set style='{}' in the backbone"),
    ):
        there, here = getattr(told, name), getattr(own, name)
        if there is not None and here is not None and there != here:
            return f'its encoder has {there} {words}, expected {here}; {remedy.format(there)}'
    return ''


def _checked(told: Mapping[str, tuple[Any, str]], origin: str) -> Traits:
    """Traits of values by field, each with its place in the file for the message."""
    pair = (_positive_pair, 'two positive whole numbers')
    checks: dict[str, tuple[Callable[[Any], Any], str]] = {
        'num_heads': (lambda v: v if type(v) is int and v > 0 else None, 'a positive whole number'),
        'grid': pair,
        'img_size': pair,
        'norm_eps': (
            lambda v: float(v) if isinstance(v, float | int) and 0 < v < 1 else None,
            'a number between 0 and 1',
        ),
        'mean': (_numbers, 'a number per channel'),
        'std': (lambda v: n if (n := _numbers(v)) and min(n) > 0 else None, 'a positive number per channel'),
        'act': (activation_name, 'the name of an activation'),
        'style': (lambda v: v if v in _STYLES else None, ' or '.join(_STYLES)),
        'strides': (_whole_numbers, 'a positive whole number per stage'),
        'dilations': (_whole_numbers, 'a positive whole number per stage'),
        'timm': (checked_timm_call, 'the arguments of timm.create_model: model_name and plain values'),
        'feature': (lambda v: v if v in _FEATURE_OF_OUTPUT.values() else None, 'class_token or patch_mean'),
    }
    values: dict[str, Any] = {}
    for name, (check, expected) in checks.items():
        value, place = told.get(name, (None, ''))
        if value is None:
            continue
        values[name] = check(value)
        if values[name] is None:
            raise CheckpointError(f'{origin}: {place} is {value!r}, expected {expected}; correct it there')
    return Traits(**values)


def _whole_numbers(value: Any) -> tuple[int, ...] | None:
    good = isinstance(value, list | tuple) and value and all(type(v) is int and v > 0 for v in value)
    return tuple(value) if good else None


def _positive_pair(value: Any) -> tuple[int, int] | None:
    pair = pair_of(value)
    return pair if pair and min(pair) > 0 else None


def _from_config(config: Mapping[str, Any]) -> Traits:
    model = mapping_in(config, 'model')
    backbone = mapping_in(model, 'backbone')
    processing = mapping_in(model if model.get('data_preprocessor') else config, 'data_preprocessor')
    mean, std = _numbers(processing.get('mean')), _numbers(processing.get('std'))
    traits = Traits(mean=mean, std=std) if mean and std and min(std) > 0 else UNKNOWN
    kind = str(backbone.get('type', ''))
    traits = replace(traits, act=_act_of_config(backbone), style=_style_of_config(backbone))
    if 'ResNe' in kind:
        strides, dilations = _whole_numbers(backbone.get('strides')), _whole_numbers(backbone.get('dilations'))
        traits = replace(traits, strides=strides, dilations=dilations)
    if not kind or any(each in kind for each in _CONV):
        return traits
    eps = mapping_in(backbone, 'norm_cfg').get('eps')
    size, patch = (_positive_pair(backbone.get(k, d)) for k, d in (('img_size', 224), ('patch_size', 16)))
    even = 'stride' not in mapping_in(backbone, 'patch_cfg')
    grid = (size[0] // patch[0], size[1] // patch[1]) if size and patch and even else None
    return replace(
        traits,
        num_heads=_heads_of_config(backbone),
        grid=grid if grid and min(grid) > 0 else None,
        img_size=size,
        norm_eps=float(eps) if isinstance(eps, float) and 0 < eps < 1 else None,
        feature=_feature_of(backbone.get('out_type')),
    )


def _act_of_config(backbone: Mapping[str, Any]) -> str | None:
    told = mapping_in(backbone, 'layer_cfgs').get('act_cfg') or backbone.get('act_cfg')
    if not isinstance(told, Mapping) or 'approximate' in told:
        return None
    return activation_name(str(told.get('type', '')).rpartition('.')[2])


def _style_of_config(backbone: Mapping[str, Any]) -> str | None:
    style = backbone.get('style')
    return style if style in _STYLES else None


def _heads_of_config(backbone: Mapping[str, Any]) -> int | None:
    arch = backbone.get('arch', 'base' if 'num_heads' not in backbone else None)
    if isinstance(arch, str):
        return ARCH_HEADS.get(arch.lower(), (0, None))[1]
    heads = arch.get('num_heads') if isinstance(arch, Mapping) else backbone.get('num_heads')
    return heads if type(heads) is int and heads > 0 else None
