"""SimMIM and backbones with a mask token: what is hidden, what is compared, freezing, copies, impossible sizes."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, build, moco_config, vit_config
from mmpretrain.models import ResNet, ResNet_CIFAR

from mmselfsup_graft.checkpoints import depth_of, save_atomically
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import load_backbone
from mmselfsup_graft.models import MaskedConvNeXt, MaskedResNet, MaskedResNetCIFAR, MaskedViT
from mmselfsup_graft.models.losses import masked_l1

# residual branches take part from the start
_SIZES = dict(depth=18, stem_channels=4, base_channels=4, zero_init_residual=False)
RESNET = dict(type='MaskedResNet', **_SIZES)
CIFAR = dict(type='MaskedResNetCIFAR', in_channels=1, strides=(1, 2, 2, 1), **_SIZES)
VIT = {**vit_config(in_channels=1), 'type': 'MaskedViT', 'out_type': 'featmap'}


def simmim_config(backbone: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
    """A small SimMIM on 64 px (ResNet) or 16 px (CIFAR's ResNet or a ViT)."""
    backbone = backbone or CIFAR
    width, stride = {'MaskedResNet': (32, 32), 'MaskedResNetCIFAR': (32, 4), 'MaskedViT': (16, 4)}[backbone['type']]
    channels = backbone.get('in_channels', 3)
    return {
        'type': 'SimMIM',
        'mask_patch': 16 if backbone['type'] == 'MaskedResNet' else 4,
        'backbone': backbone,
        'neck': dict(type='PixelShuffleNeck', in_channels=width, stride=stride, out_channels=channels),
        'head': dict(type='SimMIMHead'),
        **kwargs,
    }


def fresh(config: dict[str, Any]) -> Any:
    model = build(config)
    model.init_weights()
    return model.double().train()


def images(size: int = 16, channels: int = 1, count: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, size, size, dtype=torch.float64)


# ---------------------------------------------------------------- backbones
@pytest.mark.parametrize(('ours', 'theirs'), [(MaskedResNet, ResNet), (MaskedResNetCIFAR, ResNet_CIFAR)])
def test_without_a_mask_it_is_the_plain_resnet(ours: Any, theirs: Any) -> None:
    sizes = dict(depth=18, stem_channels=4, base_channels=4)
    masked, plain = ours(**sizes), theirs(**sizes)
    missing = masked.load_state_dict(plain.state_dict(), strict=False)
    assert missing == (['mask_token'], []), 'names are those of the plain backbone and the token'
    batch = torch.randn(2, 3, 32, 32)
    assert torch.equal(masked(batch)[-1], plain(batch)[-1])
    assert not torch.equal(masked(batch, mask=torch.ones(2, 1, 1))[-1], plain(batch)[-1])
    assert torch.equal(masked(batch)[-1], plain(batch)[-1]), 'a mask is forgotten after its batch'


def test_the_token_stands_after_the_max_pool_of_a_resnet() -> None:
    model = build(RESNET)
    model.init_weights()
    model.eval()
    seen: list[torch.Tensor] = []
    model.layer1[0].conv1.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    batch, mask = torch.randn(2, 3, 64, 64), torch.zeros(2, 4, 4)
    mask[0, 1, 2] = mask[1, 0, 0] = 1
    model(batch)
    model(batch, mask=mask)
    plain, masked = seen  # [2, 4, 16, 16]
    for image, row, column in ((0, 1, 2), (1, 0, 0)):
        square = (image, slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
        assert torch.equal(masked[square], model.mask_token[0].expand(4, 4, 4))
        plain[square] = masked[square]
    assert torch.equal(masked, plain)


@torch.no_grad()
def test_masked_patches_reach_a_vit_only_through_the_token() -> None:
    model = build(VIT)
    model.init_weights()
    model = model.double()
    model.eval()
    mask = torch.zeros(3, 4, 4)
    mask[:, 1:3, :2] = 1
    batch = images()
    other = batch + 3 * mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None] * torch.randn_like(batch)
    assert torch.equal(model(batch, mask=mask)[-1], model(other, mask=mask)[-1])
    assert not torch.allclose(model(batch)[-1], model(other)[-1])


def test_a_copy_has_hooks_of_its_own() -> None:
    model = build(CIFAR)
    model.init_weights()
    copy = deepcopy(model)
    with torch.no_grad():
        copy.mask_token.add_(1.0)
    model.eval()
    copy.eval()
    batch, mask = torch.randn(2, 1, 16, 16), torch.ones(2, 4, 4)
    assert not torch.allclose(model(batch, mask=mask)[-1], copy(batch, mask=mask)[-1])
    assert torch.equal(model(batch)[-1], copy(batch)[-1])


@pytest.mark.parametrize('backbone', [RESNET, CIFAR, VIT])
def test_initialisation_and_layer_of_the_token(backbone: dict) -> None:
    model = build({**backbone, 'mask_replace': False, 'mask_gain': 0.25})
    model.init_weights()
    assert 0 < model.mask_token.abs().max() < 0.1
    assert (model.mask_gamma == 0.25).all()
    assert model.mask_gamma.numel() == model.mask_token.numel()
    assert {depth_of(model).layer_id(name) for name in ('mask_token', 'mask_gamma')} == {0}
    assert build(backbone).mask_gamma is None


def test_depth_of_a_masked_convnext() -> None:
    model = MaskedConvNeXt(arch=dict(depths=[1, 1], channels=[4, 8]), out_indices=(1,), mask_layer=1)
    assert model.mask_token.shape == (1, 8, 1, 1)
    assert depth_of(model).num_blocks == 2
    assert depth_of(model).layer_id('mask_token') == 0


@pytest.mark.parametrize(('layer', 'width'), [(0, 4), (1, 4), (3, 16)])
def test_width_of_the_token_of_a_resnet(layer: int, width: int) -> None:
    assert build({**RESNET, 'mask_layer': layer}).mask_token.shape == (1, width, 1, 1)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mask_layer=4), r'MaskedResNet: mask_layer=4 is outside 0\.\.3'),
        (dict(mask_layer=-1), r'mask_layer=-1 is outside'),
        (dict(mask_gain=0.1), r'mask_gain=0\.1 acts only with mask_replace=False'),
    ],
)
def test_impossible_tokens(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**RESNET, **options})


# ---------------------------------------------------------------- objective
@pytest.mark.parametrize(('backbone', 'size'), [(RESNET, 64), (CIFAR, 16), (VIT, 16)])
def test_loss_by_hand(backbone: dict, size: int) -> None:
    model = fresh(simmim_config(backbone))
    batch = images(size, backbone.get('in_channels', 3))
    mask = (torch.rand(3, 4, 4) < 0.5).double()
    loss = model.loss(batch, mask=mask)['loss']
    prediction, hidden = model.reconstruct(batch, mask)
    assert hidden.shape == (3, 1, size, size)
    terms = []
    for image in range(3):
        for row in range(size):
            for column in range(size):
                assert hidden[image, 0, row, column] == mask[image, row * 4 // size, column * 4 // size]
                if hidden[image, 0, row, column]:
                    terms.append((prediction - batch)[image, :, row, column].abs().mean())
    assert_close(loss, torch.stack(terms).mean(), rtol=1e-6)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.backbone.mask_token.grad.abs().sum() > 0


def test_the_neck_puts_pixels_where_they_belong() -> None:
    neck = fresh(simmim_config())
    features = torch.randn(2, 32, 4, 4, dtype=torch.float64)
    picture = neck.neck((features,))
    weight, bias = neck.neck.decoder[0].weight[:, :, 0, 0], neck.neck.decoder[0].bias
    for row, column in ((0, 0), (5, 10), (15, 3)):
        channel = (row % 4) * 4 + column % 4
        by_hand = features[:, :, row // 4, column // 4] @ weight[channel] + bias[channel]
        assert_close(picture[:, 0, row, column], by_hand, rtol=1e-12)


def test_the_loss_stays_in_float32_and_is_zero_without_a_mask() -> None:
    prediction, target = torch.randn(2, 3, 4, 4).bfloat16(), torch.randn(2, 3, 4, 4)
    mask = torch.ones(2, 1, 4, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = masked_l1(prediction, target, mask)
    assert loss.dtype == torch.float32
    assert_close(loss, F.l1_loss(prediction.float(), target), rtol=1e-6)
    assert masked_l1(prediction, target, 0 * mask) == 0


def test_masks_are_drawn_from_the_seed_and_differ_between_images_and_steps() -> None:
    model, batch = fresh(simmim_config()), images(count=8)
    torch.manual_seed(3)
    first, second = model.draw_mask(batch), model.draw_mask(batch)
    torch.manual_seed(3)
    assert torch.equal(first, model.draw_mask(batch))
    assert not torch.equal(first, second)
    assert first.sum((1, 2)).tolist() == [10.0] * 8  # ceil(0.6 * 16)
    assert len({tuple(mask.flatten().tolist()) for mask in first}) > 1
    torch.manual_seed(3)
    assert torch.equal(model.forward_masked(batch)[1], first)


def test_a_frozen_lower_part_leaves_the_token_free() -> None:
    """CL->MIM grafting: a token that no source has would otherwise stay at its random start."""
    model = fresh(simmim_config(frozen_layers=4))
    model.loss(images())['loss'].backward()
    for name, parameter in model.backbone.named_parameters():
        frozen = model.depth.layer_id(name) <= 4 and name != 'mask_token'
        assert (parameter.grad is None) == frozen, name
    assert not model.backbone.bn1.training
    assert model.backbone.layer3[0].bn1.training


# ---------------------------------------------------------------- grafting to and fro
@pytest.mark.parametrize('backbone', [CIFAR, VIT])
def test_grafts_both_ways(backbone: dict, tmp_path) -> None:
    unmasked = {'MaskedViT': 'SelfSupViT', 'MaskedResNetCIFAR': 'mmpretrain.ResNet_CIFAR'}[backbone['type']]
    plain = {**{key: value for key, value in backbone.items() if key != 'out_type'}, 'type': unmasked}
    config = moco_config({'arch': {'embed_dims': 16 if backbone is VIT else 32}})
    config['backbone'] = plain
    config['neck']['with_avg_pool'] = backbone is CIFAR
    mim, contrastive = fresh(simmim_config(backbone)), fresh(config)
    for model, target in ((mim, config), (contrastive, simmim_config(backbone))):
        file = tmp_path / f'{type(model).__name__}.pth'
        save_atomically({'state_dict': model.float().state_dict()}, file)
        grafted = build({**target, 'graft': [dict(checkpoint=str(file))]})
        grafted.init_weights()
        source, found = model.backbone.state_dict(), grafted.backbone.state_dict()
        assert set(source) ^ set(found) == {'mask_token'}
        assert all(torch.equal(value, source[name]) for name, value in found.items() if name != 'mask_token')
    scored = load_backbone(backbone, tmp_path / 'MoCoV3.pth').state_dict()  # a file without a token can be scored too
    assert all(torch.equal(scored[name], value) for name, value in contrastive.backbone.state_dict().items())


# ---------------------------------------------------------------- impossible sizes
@pytest.mark.parametrize(
    ('config', 'size', 'message'),
    [
        (simmim_config(mask_patch=5), 16, 'mask_patch=5 does not divide images of 16x16'),
        (simmim_config(mask_patch=16), 16, 'hides 1 of the 1 blocks'),
        (simmim_config(RESNET, mask_patch=2), 64, r'32x32 blocks does not fit a map of 16x16'),
        (simmim_config(VIT, mask_patch=2), 16, '8x8 blocks does not fit a map of 4x4'),
        (simmim_config({**CIFAR, 'strides': (1, 1, 1, 1)}), 16, r'neck\.stride=4, but .* must be 1'),
        (simmim_config({**VIT, 'out_type': 'cls_token'}), 16, 'needs a map'),
    ],
)
def test_impossible_sizes(config: dict, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fresh(config).loss(images(size, config['backbone'].get('in_channels', 3)))


@pytest.mark.parametrize('options', [dict(mask_ratio=0.0), dict(mask_ratio=1.0), dict(mask_patch=0)])
def test_impossible_masks(options: dict) -> None:
    with pytest.raises(ConfigError, match='SimMIM: mask_'):
        build(simmim_config(**options))


def test_a_backbone_without_a_token() -> None:
    config = simmim_config()
    config['backbone'] = {**CIFAR, 'type': 'mmpretrain.ResNet_CIFAR'}
    with pytest.raises(ConfigError, match=r'needs a backbone with a mask token .*got ResNet_CIFAR'):
        build(config)


def test_masked_views_of_moco_still_work_on_a_masked_vit() -> None:
    model = build(moco_config({**vit_config(), 'type': 'MaskedViT'}, view_mask_ratio=0.5))
    assert isinstance(model.backbone, MaskedViT)
    assert model.loss([torch.randn(2, 3, 16, 16) for _ in range(2)])['loss'].isfinite()


def test_a_mask_and_kept_patches_exclude_each_other() -> None:
    vit = build({**vit_config(), 'type': 'MaskedViT'})
    keep, mask = torch.arange(4).expand(2, -1), torch.ones(2, 4, 4)
    with pytest.raises(ConfigError, match='MaskedViT takes a mask or kept patches, not both'):
        vit(torch.randn(2, 3, 16, 16), keep, mask=mask)


def test_a_reconstruction_of_another_shape_is_refused() -> None:
    """A neck of somebody's own, whose sizes cannot be derived."""
    head, mask = build(dict(type='SimMIMHead')), torch.zeros(2, 4, 4)
    with pytest.raises(ConfigError, match=r'reconstructs \(1, 8, 8\), images are \(1, 16, 16\)'):
        head.loss(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 16, 16), mask)
