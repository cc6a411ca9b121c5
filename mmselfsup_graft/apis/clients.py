"""The models of other libraries that take a converted backbone: built from its shapes, to check that it fits."""

import contextlib
import importlib.util
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from mmselfsup_graft.checkpoints.convert import Architecture, Conversion
from mmselfsup_graft.errors import CheckpointError

_RESNETS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


class NoClient(Exception):
    """There is no model to build here, for the reason in the message."""


def build_client(conversion: Conversion, num_heads: int | None = None) -> nn.Module:
    """Build the model that takes the converted backbone, on the CPU, with fresh weights.

    Args:
        conversion: What was converted.
        num_heads: Attention heads of a ViT, which no shape tells; None takes 64 wide heads, or one.

    Raises:
        NoClient: If its library is not installed or it has no such model.
        CheckpointError: If the shapes are those of no model.
    """
    arch = conversion.architecture
    builder = _BUILDERS.get((conversion.target.name, arch.family))
    if builder is None:
        raise NoClient(f'no model of {conversion.target.name} to check against')
    if arch.family in ('vit', 'beit') and not all(arch.img_size):
        raise NoClient('its position table is for images that are not square, and nothing tells their size')
    heads = num_heads or (arch.width // 64 if arch.width % 64 == 0 else 1)
    state = conversion.bare_state
    try:
        return builder(arch, heads, state)
    except (KeyError, IndexError, StopIteration, ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(
            f'no model of {conversion.target.name} has these shapes ({type(error).__name__}: {error}); a broken file?'
        ) from error


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise NoClient(f'{package} is not installed')


# ---------------------------------------------------------------- OpenMMLab
def _mm(config: Callable[[Architecture, int, Mapping[str, torch.Tensor]], dict[str, Any]], scope: str) -> Callable:
    def build(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
        from mmselfsup_graft.registry import MODELS

        _need(scope)
        if scope != 'mmpretrain':
            importlib.import_module(f'{scope}.models')
        settings = config(arch, heads, state)
        settings['type'] = f'{scope}.{settings["type"]}'
        settings['in_channels'] = arch.in_channels
        return MODELS.build(settings)

    return build


def _vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {
        'type': 'VisionTransformer',
        'arch': _vit_arch(arch, heads),
        'img_size': arch.img_size,
        'patch_size': arch.patch_size,
        'final_norm': 'ln1.weight' in state,
        'layer_scale_init_value': 1.0 if any('.gamma1.' in name for name in state) else 0.0,
        'out_type': 'avg_featmap' if 'ln2.weight' in state else 'raw',
    }


def _vit_arch(arch: Architecture, heads: int) -> dict[str, Any]:
    return {
        'embed_dims': arch.width,
        'num_layers': arch.blocks[0],
        'num_heads': heads,
        'feedforward_channels': arch.hidden,
    }


def _heads_of_tables(state: Mapping[str, torch.Tensor]) -> int | None:
    """Attention heads as relative position tables tell them."""
    tables = [value for name, value in state.items() if name.endswith('relative_position_bias_table')]
    return tables[0].shape[1] if tables else None


class BEiTTraits(NamedTuple):
    """What the names of a ViT with relative positions say of the arguments that its class needs.

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
        'arch': _vit_arch(arch, _heads_of_tables(state) or heads),
        'img_size': arch.img_size,
        'patch_size': arch.patch_size,
        'use_abs_pos_emb': traits.absolute,
        'use_rel_pos_bias': traits.per_block,
        'use_shared_rel_pos_bias': traits.shared,
        'layer_scale_init_value': 0.1 if traits.layer_scale else 0,
        'final_norm': traits.final_norm,
        'out_type': 'avg_featmap' if traits.pooled else 'raw',
    }


def _resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    bottleneck = 'layer1.0.conv3.weight' in state
    depth = 34 if arch.blocks == (3, 4, 6, 3) and not bottleneck else _RESNETS.get(arch.blocks)
    if depth is None or arch.stem_kernel != 7:
        raise NoClient(f'no ResNet with {arch.blocks} blocks and a stem of {arch.stem_kernel} x {arch.stem_kernel}')
    return {'type': 'ResNet', 'depth': depth, 'stem_channels': arch.width, 'base_channels': arch.width}


def _mmdet_resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {**_resnet(arch, heads, state), 'norm_cfg': {'type': 'BN', 'requires_grad': True}}


def _convnext(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    settings = {'depths': list(arch.blocks), 'channels': list(arch.widths)}
    sizes = {'arch': settings, 'stem_patch_size': arch.stem_kernel}
    return {'type': 'ConvNeXt', **sizes, 'out_indices': _normed_stages(arch, state)}


def _four_stages(arch: Architecture, library: str) -> None:
    if len(arch.blocks) != 4:
        raise NoClient(f'a ConvNeXt of {library} has four stages, this one {len(arch.blocks)}')


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
    return {
        'type': 'SwinTransformer',
        'arch': settings,
        'img_size': 32 * window,  # the input size is in no tensor
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
        **_mmseg_common(arch, _heads_of_tables(state) or heads),
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
        'norm_cfg': {'type': 'LN', 'eps': 1e-6},
    }


# ---------------------------------------------------------------- timm, torchvision, Hugging Face
def _timm_vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    _need('timm')
    from timm.models.vision_transformer import VisionTransformer

    scaled = any(name.endswith('ls1.gamma') for name in state)
    return VisionTransformer(
        img_size=arch.img_size,
        patch_size=arch.patch_size,
        embed_dim=arch.width,
        depth=arch.blocks[0],
        num_heads=heads,
        mlp_ratio=arch.hidden / arch.width,
        num_classes=0,
        in_chans=arch.in_channels,
        init_values=1.0 if scaled else None,
        global_pool='avg' if 'fc_norm.weight' in state else 'token',
        final_norm='norm.weight' in state or 'fc_norm.weight' in state,
    )


def _timm_beit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    _need('timm')
    from timm.models.beit import Beit

    traits = beit_traits(state.keys())
    return Beit(
        img_size=arch.img_size,
        patch_size=arch.patch_size,
        embed_dim=arch.width,
        depth=arch.blocks[0],
        num_heads=_heads_of_tables(state) or heads,
        mlp_ratio=arch.hidden / arch.width,
        num_classes=0,
        in_chans=arch.in_channels,
        init_values=0.1 if traits.layer_scale else None,
        use_abs_pos_emb=traits.absolute,
        use_rel_pos_bias=traits.per_block,
        use_shared_rel_pos_bias=traits.shared,
        global_pool='avg' if traits.pooled else 'token',
    )


def _timm_resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    _need('timm')
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    block: Any = Bottleneck if 'layer1.0.conv3.weight' in state else BasicBlock
    if arch.stem_kernel != 7 or arch.width != 64:
        raise NoClient(f'no ResNet of timm with a stem of {arch.width} channels and {arch.stem_kernel} pixels')
    return ResNet(block, arch.blocks, num_classes=0, in_chans=arch.in_channels)


def _timm_convnext(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    _need('timm')
    from timm.models.convnext import ConvNeXt

    _four_stages(arch, 'timm')

    return ConvNeXt(
        depths=arch.blocks, dims=arch.widths, num_classes=0, patch_size=arch.stem_kernel, in_chans=arch.in_channels
    )


def _only_colour(arch: Architecture) -> None:
    if arch.in_channels != 3:
        raise NoClient(f'models of torchvision take 3 channels, this one {arch.in_channels}')


def _torchvision_resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    _only_colour(arch)
    if arch.stem_kernel != 7 or arch.width != 64:
        raise NoClient(f'no ResNet of torchvision with a stem of {arch.width} channels and {arch.stem_kernel} pixels')
    model = ResNet(Bottleneck if 'layer1.0.conv3.weight' in state else BasicBlock, list(arch.blocks))
    model.fc = nn.Identity()
    return model


def _torchvision_convnext(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    _only_colour(arch)
    _four_stages(arch, 'torchvision')
    if arch.stem_kernel != 4:
        raise NoClient(f'a ConvNeXt of torchvision has a stem of 4 pixels, this one of {arch.stem_kernel}')
    after = [*arch.widths[1:], None]
    settings = [CNBlockConfig(w, out, n) for w, out, n in zip(arch.widths, after, arch.blocks)]
    model = ConvNeXt(settings)
    model.classifier[2] = nn.Identity()
    return model


def _huggingface_vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> nn.Module:
    _need('transformers')
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=arch.width,
        num_hidden_layers=arch.blocks[0],
        num_attention_heads=heads,
        intermediate_size=arch.hidden,
        image_size=arch.img_size,
        patch_size=arch.patch_size,
        num_channels=arch.in_channels,
        layer_norm_eps=1e-6,
    )
    return ViTModel(config, add_pooling_layer=False)


_BUILDERS: dict[tuple[str, str], Callable[..., nn.Module]] = {
    ('mmpretrain', 'vit'): _mm(_vit, 'mmpretrain'),
    ('mmpretrain', 'beit'): _mm(_beit, 'mmpretrain'),
    ('mmpretrain', 'resnet'): _mm(_resnet, 'mmpretrain'),
    ('mmpretrain', 'convnext'): _mm(_convnext, 'mmpretrain'),
    ('mmpretrain', 'swin'): _mm(_swin, 'mmpretrain'),
    # the same backbones of mmpretrain, inside a detector or segmentor
    ('mmdet', 'vit'): _mm(_vit, 'mmpretrain'),
    ('mmdet', 'resnet'): _mm(_mmdet_resnet, 'mmdet'),
    ('mmdet', 'convnext'): _mm(_convnext, 'mmpretrain'),
    ('mmdet', 'swin'): _mm(_swin, 'mmpretrain'),
    ('mmseg', 'vit'): _mm(_vit, 'mmpretrain'),
    ('mmseg', 'beit'): _mm(_beit, 'mmpretrain'),
    ('mmseg', 'resnet'): _mm(_mmdet_resnet, 'mmseg'),
    ('mmseg', 'convnext'): _mm(_convnext, 'mmpretrain'),
    ('mmseg', 'swin'): _mm(_swin, 'mmpretrain'),
    ('mmseg-vit', 'vit'): _mm(_mmseg_vit, 'mmseg'),
    ('mmseg-mae', 'vit'): _mm(_mmseg_mae, 'mmseg'),
    ('mmseg-mae', 'beit'): _mm(_mmseg_mae, 'mmseg'),
    ('timm', 'vit'): _timm_vit,
    ('timm', 'beit'): _timm_beit,
    ('timm', 'resnet'): _timm_resnet,
    ('timm', 'convnext'): _timm_convnext,
    ('torchvision', 'resnet'): _torchvision_resnet,
    ('torchvision', 'convnext'): _torchvision_convnext,
    ('hf', 'vit'): _huggingface_vit,
}


@dataclass(frozen=True)
class Fit:
    """How a converted backbone fits its client, as lists of names in the target.

    Attributes:
        client: The class that was built.
        missing: What the client has and the file lacks.
        fresh: The same, where it is meant to stay at its first value.
        unexpected: What the client has no place for.
        mismatched: What has another shape there.
    """

    client: str
    missing: list[str]
    fresh: list[str]
    unexpected: list[str]
    mismatched: list[str]

    @property
    def good(self) -> bool:
        """Whether every tensor has its place and every place its tensor."""
        return not (self.missing or self.unexpected or self.mismatched)

    def problem(self) -> str:
        """What does not fit, in a few words."""
        for names, words in (
            (self.missing, f'{self.client} has {{}} that the file lacks'),
            (self.unexpected, f'{self.client} has no place for {{}} of the file'),
            (self.mismatched, f'{{}} have another shape in {self.client}'),
        ):
            if names:
                shown = ', '.join(names[:3]) + (' ...' if len(names) > 3 else '')
                return f'{words.format(f"{len(names)} tensors")} ({shown})'
        return ''


def check_client(conversion: Conversion) -> Fit:
    """Load the converted backbone into its client and compare names and shapes.

    Args:
        conversion: What was converted.

    Raises:
        NoClient: If there is nothing to load it into.
    """
    with contextlib.redirect_stdout(None):
        client = build_client(conversion)
    wanted = client.state_dict()
    given = conversion.bare_state
    fresh = conversion.target.families[conversion.architecture.family].fresh
    absent = [name for name in wanted if name not in given and not name.endswith('num_batches_tracked')]
    return Fit(
        client=f'{type(client).__module__.partition(".")[0]}.{type(client).__name__}',
        missing=[name for name in absent if not re.match(fresh, name)],
        fresh=[name for name in absent if re.match(fresh, name)],
        unexpected=[name for name in given if name not in wanted and conversion.prefix + name not in conversion.head],
        mismatched=[n for n, v in given.items() if n in wanted and wanted[n].shape != v.shape],
    )
