"""Target models in OpenMMLab's libraries, built from the shapes and the file of a converted backbone."""

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from mmselfsup_graft.checkpoints.conversion.architecture import Architecture

from .target_model import EPS, NoTargetModel, TargetModel, need

#: this toolbox's ViT, which is loaded by a graft and has no ``init_cfg``
OWN_VIT = 'mmselfsup_graft.SelfSupViT'
_ACTS: dict[str, dict[str, Any]] = {
    'quick_gelu': {'type': 'mmpretrain.QuickGELU'},
    'gelu_tanh': {'type': 'GELU', 'approximate': 'tanh'},
    'relu': {'type': 'ReLU'},
    'silu': {'type': 'Swish'},
}
_RESNETS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


def _mm(config: Callable[[Architecture, int, Mapping[str, torch.Tensor]], dict[str, Any]], scope: str) -> Callable:
    def target_model(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
        settings = config(arch, heads, state)
        kind = settings.pop('type')
        settings['in_channels'] = arch.in_channels
        name = kind if '.' in kind else f'{scope}.{kind}'

        def make() -> nn.Module:
            from mmselfsup_graft.registry import MODELS

            need(scope)
            if scope != 'mmpretrain':
                importlib.import_module(f'{scope}.models')
            return MODELS.build({'type': name, **settings})

        # the outputs of the backbone are the user's choice, unless it has its own norm
        # (four stages are what every class expects)
        choices = ({'out_indices'} if len(arch.blocks) in (1, 4) else set()) | (
            {'out_type'} if settings.get('out_type') == 'raw' else set()
        )
        return TargetModel(name, settings, make, quiet=frozenset(choices))

    return target_model


def _vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        'type': 'VisionTransformer',
        'arch': _vit_arch(arch, heads),
        'img_size': arch.img_size,
        'patch_size': arch.patch_size,
        'final_norm': 'ln1.weight' in state,
        'out_type': 'avg_featmap' if 'ln2.weight' in state else 'raw',
    }
    normed = 'layers.0.attn.q_norm.weight' in state
    options: dict[str, tuple[Any, Any]] = {  # value, and the one that needs no mention
        'layer_scale_init_value': (1.0 if any('.gamma1.' in name for name in state) else 0.0, 0.0),
        'qkv_bias': ('layers.0.attn.qkv.bias' in state, True),
        'with_cls_token': ('cls_token' in state, True),
        'pre_norm': ('pre_norm.weight' in state, False),
        'patch_cfg': ({'bias': 'patch_embed.projection.bias' in state}, {'bias': 'pre_norm.weight' not in state}),
        'layer_cfgs': ({'ffn_type': 'swiglu_fused'} if 'layers.0.ffn.w12.weight' in state else _act(arch), {}),
        'norm_cfg': ({'type': 'LN', 'eps': arch.norm_eps or EPS}, {'type': 'LN', 'eps': EPS}),
        'num_registers': (arch.registers, 0),
        'qk_norm': (normed, False),
    }
    settings.update({key: value for key, (value, usual) in options.items() if value != usual})
    if arch.registers or normed:  # mmpretrain's class has neither
        if 'cls_token' not in state:
            raise NoTargetModel('a ViT with registers or norms of queries and keys and without class token')
        settings['type'] = OWN_VIT
    return settings


def _act(arch: Architecture) -> dict[str, Any]:
    """Option of the blocks for another activation than GELU."""
    if arch.act in ('', 'gelu'):
        return {}
    if arch.act not in _ACTS:
        raise NoTargetModel(f'a ViT with {arch.act} as activation')
    return {'act_cfg': _ACTS[arch.act]}


def _vit_inside(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    settings = _vit(arch, heads, state)
    if settings['type'] == OWN_VIT:
        raise NoTargetModel(
            'a ViT with registers or norms of queries and keys, for which detectors and segmentors have no class'
        )
    return settings


def _vit_arch(arch: Architecture, heads: int) -> dict[str, Any]:
    return {
        'embed_dims': arch.width,
        'num_layers': arch.blocks[0],
        'num_heads': heads,
        'feedforward_channels': arch.hidden,
    }


class BEiTTraits(NamedTuple):
    """Arguments of the class of a ViT with relative positions, inferred from the names of its tensors.

    Attributes:
        absolute: There are absolute positions as well.
        per_block: Every block has a table of relative positions.
        shared: All blocks share one.
        layer_scale: Blocks have a layer scale.
        final_norm: The last block is followed by a norm.
        pooled: There is a norm for the mean of the patches.
    """

    absolute: bool
    per_block: bool
    shared: bool
    layer_scale: bool
    final_norm: bool
    pooled: bool


def beit_traits(names: Collection[str]) -> BEiTTraits:
    """Traits of a backbone by the names of its tensors in any library's spelling, without prefix."""
    return BEiTTraits(
        absolute='pos_embed' in names,
        per_block=any('.attn.relative_position_bias_table' in name for name in names),
        shared=any(name.startswith('rel_pos_bias.') for name in names),
        layer_scale=any(name.endswith('.gamma_1') for name in names),
        final_norm='ln1.weight' in names,
        pooled='ln2.weight' in names or 'fc_norm.weight' in names,
    )


def _beit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    traits = beit_traits(state.keys())
    return {
        'type': 'BEiTViT',
        'arch': _vit_arch(arch, heads),
        'img_size': arch.img_size,
        'patch_size': arch.patch_size,
        'use_abs_pos_emb': traits.absolute,
        'use_rel_pos_bias': traits.per_block,
        'use_shared_rel_pos_bias': traits.shared,
        'layer_scale_init_value': 0.1 if traits.layer_scale else 0,
        'final_norm': traits.final_norm,
        'out_type': 'avg_featmap' if traits.pooled else 'raw',
        **({'norm_cfg': {'type': 'LN', 'eps': arch.norm_eps}} if arch.norm_eps not in (0.0, EPS) else {}),
    }


def _resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    bottleneck = 'layer1.0.conv3.weight' in state
    grouped = state.get('layer1.0.conv2.weight')
    if grouped is not None and bottleneck and grouped.shape[0] != grouped.shape[1]:
        raise NoTargetModel('a ResNet with grouped convolutions')
    depth = 34 if arch.blocks == (3, 4, 6, 3) and not bottleneck else _RESNETS.get(arch.blocks)
    if depth is None or arch.stem_kernel != 7:
        raise NoTargetModel(
            f'no ResNet with {arch.blocks} blocks and a stem of {arch.stem_kernel} x {arch.stem_kernel}'
        )
    base = state['layer1.0.conv1.weight'].shape[0]
    wider = state['layer1.0.conv3.weight'].shape[0] // base if bottleneck else 0
    sizes: dict[str, Any] = {'depth': depth, 'stem_channels': arch.width, 'base_channels': base}
    sizes |= {**({'style': 'caffe'} if arch.style == 'caffe' else {}), **arch.unusual_stages}
    return {'type': 'ResNet', **sizes, **({'expansion': wider} if wider not in (0, 4) else {})}


def _mmdet_resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    settings = _resnet(arch, heads, state)
    if 'expansion' in settings:
        raise NoTargetModel('a wide ResNet, which mmpretrain has and mmdet and mmseg do not have; use --to mmpretrain')
    return {**settings, 'norm_cfg': {'type': 'BN', 'requires_grad': True}}


def _convnext(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    settings = {'depths': list(arch.blocks), 'channels': list(arch.widths)}
    sizes = {'arch': settings, 'stem_patch_size': arch.stem_kernel}
    special: dict[str, Any] = {'use_grn': True} if 'stages.0.0.grn.gamma' in state else {}
    special |= {} if 'stages.0.0.gamma' in state else {'layer_scale_init_value': 0.0}
    return {'type': 'ConvNeXt', **sizes, **special, 'out_indices': _normed_stages(arch, state)}


def _normed_stages(arch: Architecture, state: Mapping[str, torch.Tensor]) -> list[int]:
    stages = range(len(arch.blocks))
    return [stage for stage in stages if f'norm{stage}.weight' in state] or [stages[-1]]


def _swin(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    tables = {n: v for n, v in state.items() if n.endswith('.0.attn.w_msa.relative_position_bias_table')}
    window = (round(next(iter(tables.values())).shape[0] ** 0.5) + 1) // 2
    settings = {
        'embed_dims': arch.width,
        'depths': list(arch.blocks),
        'num_heads': [value.shape[1] for value in tables.values()],
    }
    size: Any = 32 * window  # the input size is in no tensor
    absolute = 'absolute_pos_embed' in state
    if absolute and not all(arch.img_size):
        raise NoTargetModel('its position table is for images that are not square, and their size is unknown')
    return {
        'type': 'SwinTransformer',
        'arch': settings,
        'img_size': arch.img_size if absolute else size,
        **({'use_abs_pos_embed': True} if absolute else {}),
        'patch_size': arch.patch_size,
        'window_size': window,
        'out_indices': _normed_stages(arch, state),
    }


def _mmseg_vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {
        'type': 'VisionTransformer',
        **_mmseg_common(arch, heads),
        'patch_bias': True,
        'final_norm': 'ln1.weight' in state,
        'out_indices': list(range(arch.blocks[0])),
    }


def _mmseg_mae(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    scaled = any(name.endswith('.gamma_1') for name in state)
    return {
        'type': 'MAE',
        **_mmseg_common(arch, heads),
        'final_norm': 'ln1.weight' in state,
        'init_values': 0.1 if scaled else 1.0,
        'out_indices': list(range(arch.blocks[0])),
    }


def _mmseg_common(arch: Architecture, heads: int) -> dict[str, Any]:
    return {
        'embed_dims': arch.width,
        'num_layers': arch.blocks[0],
        'num_heads': heads,
        'mlp_ratio': arch.hidden // arch.width,
        'img_size': arch.img_size,
        'patch_size': arch.patch_size,
        'norm_cfg': {'type': 'LN', 'eps': arch.norm_eps or EPS},
    }


#: (target, family) -> builder
MM_BUILDERS: dict[tuple[str, str], Callable[..., TargetModel]] = {
    ('mmpretrain', 'vit'): _mm(_vit, 'mmpretrain'),
    ('mmpretrain', 'beit'): _mm(_beit, 'mmpretrain'),
    ('mmpretrain', 'resnet'): _mm(_resnet, 'mmpretrain'),
    ('mmpretrain', 'convnext'): _mm(_convnext, 'mmpretrain'),
    ('mmpretrain', 'swin'): _mm(_swin, 'mmpretrain'),
    # the same backbones of mmpretrain, inside a detector or segmentor
    ('mmdet', 'vit'): _mm(_vit_inside, 'mmpretrain'),
    ('mmdet', 'resnet'): _mm(_mmdet_resnet, 'mmdet'),
    ('mmdet', 'convnext'): _mm(_convnext, 'mmpretrain'),
    ('mmdet', 'swin'): _mm(_swin, 'mmpretrain'),
    ('mmseg', 'vit'): _mm(_vit_inside, 'mmpretrain'),
    ('mmseg', 'beit'): _mm(_beit, 'mmpretrain'),
    ('mmseg', 'resnet'): _mm(_mmdet_resnet, 'mmseg'),
    ('mmseg', 'convnext'): _mm(_convnext, 'mmpretrain'),
    ('mmseg', 'swin'): _mm(_swin, 'mmpretrain'),
    ('mmseg-vit', 'vit'): _mm(_mmseg_vit, 'mmseg'),
    ('mmseg-mae', 'vit'): _mm(_mmseg_mae, 'mmseg'),
    ('mmseg-mae', 'beit'): _mm(_mmseg_mae, 'mmseg'),
}
