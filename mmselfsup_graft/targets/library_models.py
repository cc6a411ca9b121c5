"""Target models in timm, torchvision and Hugging Face transformers, from the shapes and the file of a backbone."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.checkpoints.conversion.architecture import Architecture

from .openmmlab_models import beit_traits
from .target_model import EPS, Code, NoTargetModel, TargetModel, arguments_text, need

#: classes whose names are in the text of a model; the text of one with more takes them from a variable ``classes``
MOST_SHOWN = 20


def _four_stages(arch: Architecture, library: str) -> None:
    if len(arch.blocks) != 4:
        raise NoTargetModel(f'a ConvNeXt of {library} has four stages, this one {len(arch.blocks)}')


def _called(package: str, name: str, arguments: Mapping[str, Any], after: tuple[str, ...] = ()) -> TargetModel:
    """A target model that is built by the text that is shown to users."""

    def make() -> nn.Module:
        need(package)
        values = {k: v.make() if isinstance(v, Code) else v for k, v in arguments.items()}
        return _imported(name)(**values)

    return TargetModel(name, arguments, make, after)


def _imported(name: str) -> Any:
    module, _, kind = name.rpartition('.')
    return getattr(importlib.import_module(module), kind)


def _timm_norm(arch: Architecture) -> dict[str, Any]:
    if arch.norm_eps in (0.0, EPS):
        return {}
    text = f'functools.partial(torch.nn.LayerNorm, eps={arch.norm_eps!r})'
    return {'norm_layer': Code(text, lambda: functools.partial(nn.LayerNorm, eps=arch.norm_eps))}


def _timm_sizes(arch: Architecture) -> dict[str, Any]:
    """Arguments that all of timm's transformers have."""
    return {
        'img_size': arch.img_size,
        'patch_size': arch.patch_size,
        'in_chans': arch.in_channels,
        'num_classes': len(arch.classes),
        'embed_dim': arch.width,
        'depth': arch.blocks[0],
    }


def _timm_vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    pooled = 'fc_norm.weight' in state
    with_class = 'cls_token' in state
    arguments: dict[str, Any] = {
        **_timm_sizes(arch),
        'num_heads': heads,
        'mlp_ratio': arch.hidden / arch.width,
        'qkv_bias': 'blocks.0.attn.qkv.bias' in state,
        'init_values': 1.0 if any(name.endswith('ls1.gamma') for name in state) else None,
        'class_token': with_class,
        **_timm_pooling(arch, pooled, with_class),
        'reg_tokens': arch.registers,
        'no_embed_class': bool(arch.registers),
        'qk_norm': 'blocks.0.attn.q_norm.weight' in state,
        'pre_norm': 'norm_pre.weight' in state,
        'final_norm': 'norm.weight' in state or pooled,
        **_timm_norm(arch),
        **({'act_layer': arch.act} if arch.act not in ('', 'gelu') else {}),
    }
    return _called('timm', 'timm.models.vision_transformer.VisionTransformer', arguments)


def _timm_pooling(arch: Architecture, pooled: bool, with_class: bool) -> dict[str, Any]:
    """Pooling that gives the feature the encoder was trained for: class token, or mean of the patches."""
    if pooled:
        return {'global_pool': 'avg'}
    if arch.feature == 'patch_mean':
        return {'global_pool': 'avg', 'fc_norm': False}  # the norm stays before the mean
    return {'global_pool': 'token' if with_class else ''}


def _timm_beit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    traits = beit_traits(state.keys())
    if arch.classes and arch.feature == 'patch_mean' and not traits.pooled:
        raise NoTargetModel('a Beit of timm that pools patches without a norm after it')
    arguments: dict[str, Any] = {
        **_timm_sizes(arch),
        'num_heads': heads,
        'mlp_ratio': arch.hidden / arch.width,
        'init_values': 0.1 if traits.layer_scale else None,
        'use_abs_pos_emb': traits.absolute,
        'use_rel_pos_bias': traits.per_block,
        'use_shared_rel_pos_bias': traits.shared,
        'global_pool': 'avg' if traits.pooled else 'token',
        **_timm_norm(arch),
    }
    return _called('timm', 'timm.models.beit.Beit', arguments)


def _timm_resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    if arch.stem_kernel != 7 or arch.width != 64:
        raise NoTargetModel(f'no ResNet of timm with a stem of {arch.width} channels and {arch.stem_kernel} pixels')
    block = _class(f'timm.models.resnet.{_block(state)}')
    arguments: dict[str, Any] = {
        'block': block,
        'layers': arch.blocks,
        'num_classes': len(arch.classes),
        'in_chans': arch.in_channels,
    }
    groups, width = _groups(state)
    arguments |= {'cardinality': groups} if groups != 1 else {}
    arguments |= {'base_width': width} if width != 64 else {}
    return _called('timm', 'timm.models.resnet.ResNet', arguments)


def _class(name: str) -> Code:
    return Code(name, lambda: _imported(name))


def _block(state: Mapping[str, torch.Tensor]) -> str:
    return 'Bottleneck' if 'layer1.0.conv3.weight' in state else 'BasicBlock'


def _groups(state: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Groups of the 3 x 3 convolutions of bottlenecks, and channels of each in the first stage: 1 and 64 as a rule."""
    if 'layer1.0.conv3.weight' not in state:
        return 1, 64
    out, each = state['layer1.0.conv2.weight'].shape[:2]
    return out // each, each


def _timm_convnext(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    _four_stages(arch, 'timm')
    sizes = {'depths': arch.blocks, 'dims': arch.widths, 'patch_size': arch.stem_kernel}
    arguments = {**sizes, 'num_classes': len(arch.classes), 'in_chans': arch.in_channels}
    return _called('timm', 'timm.models.convnext.ConvNeXt', arguments)


def _timm_model(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    """The model that a run held, as its checkpoint states it."""
    if arch.timm is None:
        raise NoTargetModel('the file does not state which model of timm it holds')
    return _called('timm', 'timm.create_model', {**arch.timm, 'num_classes': 0})


def _only_color(arch: Architecture) -> None:
    if arch.in_channels != 3:
        raise NoTargetModel(f'models of torchvision take 3 channels, this one {arch.in_channels}')


def _torchvision_resnet(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    _only_color(arch)
    if arch.stem_kernel != 7 or arch.width != 64:
        raise NoTargetModel(
            f'no ResNet of torchvision with a stem of {arch.width} channels and {arch.stem_kernel} pixels'
        )
    arguments: dict[str, Any] = {
        'block': _class(f'torchvision.models.resnet.{_block(state)}'),
        'layers': list(arch.blocks),
    }
    groups, width = _groups(state)
    arguments |= {'groups': groups} if groups != 1 else {}
    arguments |= {'width_per_group': width} if width != 64 else {}
    return _headless(_called('torchvision', 'torchvision.models.resnet.ResNet', arguments), 'fc')


def _headless(target_model: TargetModel, head: str) -> TargetModel:
    """The target model without its classifier."""

    def make() -> nn.Module:
        model = target_model.make()
        parent, _, name = head.rpartition('.')
        setattr(model.get_submodule(parent), name, nn.Identity())
        return model

    text = head.replace('.2', '[2]')
    return replace(target_model, make=make, after=(f'model.{text} = torch.nn.Identity()',))


def _torchvision_convnext(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    _only_color(arch)
    _four_stages(arch, 'torchvision')
    if arch.stem_kernel != 4:
        raise NoTargetModel(f'a ConvNeXt of torchvision has a stem of 4 pixels, this one of {arch.stem_kernel}')
    after = [*arch.widths[1:], None]
    stages = ', '.join(
        f'torchvision.models.convnext.CNBlockConfig({width}, {out}, {count})'
        for width, out, count in zip(arch.widths, after, arch.blocks)
    )
    sizes = list(zip(arch.widths, after, arch.blocks))
    setting = Code(f'[{stages}]', lambda: [_imported('torchvision.models.convnext.CNBlockConfig')(*s) for s in sizes])
    target_model = _called('torchvision', 'torchvision.models.convnext.ConvNeXt', {'block_setting': setting})
    return _headless(target_model, 'classifier.2')


def _huggingface_vit(arch: Architecture, heads: int, state: Mapping[str, torch.Tensor]) -> TargetModel:
    inside = {name.partition('.')[2]: value for name, value in state.items()} if arch.classes else state
    config: dict[str, Any] = {
        'hidden_size': arch.width,
        'num_hidden_layers': arch.blocks[0],
        'num_attention_heads': heads,
        'image_size': arch.img_size,
        'patch_size': arch.patch_size,
        'num_channels': arch.in_channels,
        'layer_norm_eps': arch.norm_eps or EPS,
        'qkv_bias': 'encoder.layer.0.attention.attention.query.bias' in inside,
        **_huggingface_labels(arch.classes),
    }
    if arch.act not in ('', 'gelu'):
        config['hidden_act'] = {'gelu_tanh': 'gelu_pytorch_tanh'}.get(arch.act, arch.act)
    if not any('.layer_scale1.' in name for name in inside):
        config['intermediate_size'] = arch.hidden
        arguments: dict[str, Any] = {'config': _config('ViT', config)}
        if arch.classes:
            return _called('transformers', 'transformers.ViTForImageClassification', arguments)
        arguments |= {'add_pooling_layer': False}
        return _called('transformers', 'transformers.ViTModel', arguments)
    if arch.hidden % arch.width:
        raise NoTargetModel('a Dinov2Model whose feed-forward layers are not a whole multiple as wide')
    if arch.img_size[0] != arch.img_size[1]:
        raise NoTargetModel('a Dinov2Model for images that are not square, which its position table must be for')
    config['mlp_ratio'] = arch.hidden // arch.width
    kind = 'Dinov2'
    if arch.registers:
        kind = 'Dinov2WithRegisters'
        config['num_register_tokens'] = arch.registers
    arguments = {'config': _config(kind, config)}
    kind += 'ForImageClassification' if arch.classes else 'Model'
    return replace(_called('transformers', f'transformers.{kind}', arguments), partly=True)  # a mask token


def _huggingface_labels(classes: Sequence[str]) -> dict[str, Any]:
    """Options of a configuration that hold the names of classes."""
    if not classes:
        return {}
    names = dict(enumerate(classes))
    numbers = {name: number for number, name in names.items()}
    texts = (repr(names), repr(numbers))
    if len(classes) > MOST_SHOWN:
        texts = ('dict(enumerate(classes))', '{name: number for number, name in enumerate(classes)}')
    return {'id2label': Code(texts[0], lambda: names), 'label2id': Code(texts[1], lambda: numbers)}


def _config(kind: str, settings: Mapping[str, Any]) -> Code:
    name = f'transformers.{kind}Config'

    def make() -> Any:
        return _imported(name)(**{k: v.make() if isinstance(v, Code) else v for k, v in settings.items()})

    return Code(f'{name}({arguments_text(settings)})', make)


#: (target, family) -> builder
OTHER_BUILDERS: dict[tuple[str, str], Callable[..., TargetModel]] = {
    ('timm', 'vit'): _timm_vit,
    ('timm', 'beit'): _timm_beit,
    ('timm', 'resnet'): _timm_resnet,
    ('timm', 'convnext'): _timm_convnext,
    ('timm', 'timm'): _timm_model,
    ('torchvision', 'resnet'): _torchvision_resnet,
    ('torchvision', 'convnext'): _torchvision_convnext,
    ('hf', 'vit'): _huggingface_vit,
}
