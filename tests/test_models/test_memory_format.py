"""Convolutional encoders with channels side by side: the same numbers, and no map falls back on the way."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from helpers import assert_close, build, mae_config, mlp_config, moco_config

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.memory_format import contiguous_format

LAST = torch.channels_last
CONVNEXT = {'type': 'MaskedConvNeXt', 'arch': {'depths': [1, 1], 'channels': [8, 16]}, 'gap_before_final_norm': False}
CONVNEXT.update(stem_patch_size=2, out_indices=(1,))
RESNET = {'type': 'MaskedResNet', 'depth': 18, 'stem_channels': 8, 'base_channels': 8}
TOKEN: dict[str, Any] = {'mask_layer': 1, 'mask_replace': False, 'mask_gain': 0.1}
HEAD = {'type': 'A2MIMHead', 'mode': 'focal_l1', 'fft_weight': 0.5}


def _model(backbone: dict[str, Any], kind: str, **options: Any) -> Any:
    width, stride = (16, 4) if backbone is CONVNEXT else (64, 32)
    neck = {'type': 'PixelShuffleNeck', 'in_channels': width, 'stride': stride}
    token = TOKEN if kind == 'A2MIM' else {}
    head = HEAD if kind == 'A2MIM' else {'type': 'SimMIMHead'}
    torch.manual_seed(1)
    model = build({'type': kind, 'backbone': {**backbone, **token}, 'neck': neck, 'head': head, **options})
    model.init_weights()
    return model.double().train()


def _images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize('kind', ['SimMIM', 'A2MIM'])
@pytest.mark.parametrize('backbone', [CONVNEXT, RESNET], ids=['ConvNeXt', 'ResNet'])
def test_same_losses_and_gradients(backbone: dict[str, Any], kind: str) -> None:
    models = [_model(backbone, kind, channels_last=last) for last in (False, True)]
    losses = []
    for model in models:
        torch.manual_seed(3)  # masks
        losses.append(model.loss(_images()))
        sum(losses[-1].values()).backward()
    for name, value in losses[0].items():
        assert_close(losses[1][name], value, rtol=1e-11, name=name)
    others = dict(models[1].named_parameters())
    largest = max(float(p.grad.abs().max()) for p in models[0].parameters() if p.grad is not None)
    for name, parameter in models[0].named_parameters():
        if parameter.grad is not None:
            assert_close(others[name].grad, parameter.grad, rtol=1e-9, atol=1e-12 * largest, name=name)


@torch.no_grad()
@pytest.mark.parametrize('kind', ['SimMIM', 'A2MIM'])
@pytest.mark.parametrize('backbone', [CONVNEXT, RESNET], ids=['ConvNeXt', 'ResNet'])
def test_every_convolution_sees_the_format(backbone: dict[str, Any], kind: str) -> None:
    """The mask token and the norms between must not bring maps back into the other one."""
    model = _model(backbone, kind, channels_last=True)
    seen: dict[str, bool] = {}
    for name, module in model.backbone.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, out, n=name: seen.update({n: out.is_contiguous(memory_format=LAST)})
            )
    model.loss(_images())
    assert len(seen) > 3
    assert all(seen.values()), [name for name, good in seen.items() if not good]
    mixed = model.backbone._mix(
        torch.randn(2, model.backbone.mask_token.shape[1], 4, 4).double().contiguous(memory_format=LAST),
        torch.ones(2, 1, 4, 4),
        (2, 3),
    )
    assert mixed.is_contiguous(memory_format=LAST)
    assert not mixed.is_contiguous()


def test_state_is_the_same() -> None:
    plain, last = (_model(RESNET, 'SimMIM', channels_last=option) for option in (False, True))
    assert last.backbone.layer1[0].conv1.weight.is_contiguous(memory_format=LAST)
    for (name, value), (other, wanted) in zip(last.state_dict().items(), plain.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(value, wanted), name
    last.load_state_dict(plain.state_dict())
    assert last.backbone.layer1[0].conv1.weight.is_contiguous(memory_format=LAST), 'loading keeps the format'


def test_a_copy_works_in_the_format_too() -> None:
    config = moco_config({'arch': {'embed_dims': 64}}, channels_last=True)
    config['backbone'] = {'type': 'SelfSupResNet', 'depth': 18, 'stem_channels': 8, 'base_channels': 8}
    config['neck'] = mlp_config(64, 16, 8, 2, with_avg_pool=True)
    model = build(config)
    twin = deepcopy(model)
    for encoder in (model.momentum_encoder.backbone, twin.backbone, twin.momentum_encoder.backbone):
        assert encoder.layer1[0].conv1.weight.is_contiguous(memory_format=LAST)
        assert encoder(torch.randn(2, 3, 64, 64))[-1].is_contiguous(memory_format=LAST)
    values = []
    for last in (False, True):
        torch.manual_seed(1)
        moco = build({**config, 'channels_last': last})
        moco.init_weights()
        moco.double().train()
        views = list(_images().repeat(2, 1, 1, 1).chunk(2))
        views[1] = views[1].flip(3)
        values.append(moco.loss(views)['loss'])
    assert_close(*values, rtol=1e-9)


def test_the_format_is_back_after_a_failed_start() -> None:
    model = _model(RESNET, 'SimMIM', channels_last=True)
    inside: list[bool] = []

    def fail() -> None:
        with contiguous_format(model):
            inside.append(model.backbone.layer1[0].conv1.weight.is_contiguous(memory_format=LAST))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [False]
    assert model.backbone.layer1[0].conv1.weight.is_contiguous(memory_format=LAST)


def test_images_are_brought_into_the_format() -> None:
    """Otherwise every layer before the first convolution with other weights would see the usual one."""
    model = _model(RESNET, 'SimMIM', channels_last=True)
    seen: list[bool] = []
    model.backbone.conv1.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=LAST))
    )
    model.loss(_images())
    assert seen == [True]


def test_a_classifier_may_have_it() -> None:
    backbone = {'type': 'SelfSupResNet', 'depth': 18, 'stem_channels': 8, 'base_channels': 8}
    head = {'type': 'mmpretrain.LinearClsHead', 'num_classes': 3, 'in_channels': 64}
    head['loss'] = {'type': 'mmpretrain.CrossEntropyLoss'}
    neck = {'type': 'mmpretrain.GlobalAveragePooling'}
    model = build(
        {'type': 'GraftedClassifier', 'backbone': backbone, 'neck': neck, 'head': head, 'channels_last': True}
    )
    assert model.backbone(torch.randn(2, 3, 64, 64))[-1].is_contiguous(memory_format=LAST)


def test_transformers_have_no_channels_to_order() -> None:
    with pytest.raises(ConfigError, match='channels_last=True is for convolutional backbones; SelfSupViT has'):
        build(mae_config(channels_last=True))
