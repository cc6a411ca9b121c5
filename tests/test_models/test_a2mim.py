"""A2MIM: filling, tokens of every kind, spatial and Fourier losses by hand, backbones, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close, build, vit_config
from mmpretrain.models import SwinTransformer

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import MaskedBEiT, MaskedSwin, SelfSupBEiT, SelfSupResNet
from mmselfsup_graft.models.losses import focal_frequency_loss, fourier_error, regression_error
from mmselfsup_graft.models.masking import fill_with_mean, mix_mask_token

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
RESNET = dict(type='MaskedResNet', depth=18, stem_channels=4, base_channels=4, zero_init_residual=False, mask_layer=3)
CONVNEXT = dict(
    type='MaskedConvNeXt',
    arch=dict(depths=[1, 1, 1, 1], channels=[4, 8, 8, 16]),
    gap_before_final_norm=False,
    layer_scale_init_value=1.0,
    mask_layer=3,
)
BEIT = dict(type='MaskedBEiT', arch=ARCH, img_size=64, patch_size=16)
SWIN = dict(
    type='MaskedSwin',
    arch=dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2]),
    img_size=64,
    window_size=2,
    drop_path_rate=0.0,
)
BACKBONES = {'resnet': (RESNET, 32, 32), 'convnext': (CONVNEXT, 16, 32), 'vit': (BEIT, 16, 16), 'swin': (SWIN, 64, 32)}
every_backbone = pytest.mark.parametrize('kind', BACKBONES)


MASKS = ('mask_patch', 'mask_ratio')  # of the algorithm; other options with mask_ are the backbone's


def a2mim(kind: str = 'resnet', head: dict[str, Any] | None = None, **options: Any) -> Any:
    """A fresh model in double precision for 64-px images of four blocks; options of the backbone begin with mask_."""
    backbone, width, stride = BACKBONES[kind]
    token = {key: options.pop(key) for key in list(options) if key.startswith('mask_') and key not in MASKS}
    model = build(
        dict(
            type='A2MIM',
            mask_patch=options.pop('mask_patch', 32),
            mask_ratio=options.pop('mask_ratio', 0.6),
            backbone={**backbone, 'mask_replace': False, **token},
            neck=dict(type='PixelShuffleNeck', in_channels=width, stride=stride),
            head=dict(type='A2MIMHead', **(head or {})),
            **options,
        )
    )
    model.init_weights()
    return model.double().train()


def images(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64) + 0.3


CORNERS = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)


# ---------------------------------------------------------------- input
def test_the_encoder_sees_the_mean_colour_and_the_loss_the_image() -> None:
    model, batch = a2mim(), images()
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    prediction, hidden = model.reconstruct(batch, CORNERS)
    for image in range(2):
        for row in range(0, 64, 7):
            for column in range(0, 64, 7):
                masked = CORNERS[image, row // 32, column // 32]
                wanted = batch[image].mean((1, 2)) if masked else batch[image, :, row, column]
                assert_close(seen[0][image, :, row, column], wanted, rtol=1e-12)
    loss = model.head.loss(prediction, batch, CORNERS)['loss_spatial']
    by_hand = ((prediction - batch).abs() * hidden).sum() / (hidden.sum() * 3)
    assert_close(loss, by_hand, rtol=1e-6)


def test_filling_changes_no_input_in_place_and_nothing_where_nothing_is_masked() -> None:
    batch = images()
    before = batch.clone()
    assert torch.equal(fill_with_mean(batch, torch.zeros(2, 1, 64, 64)), before)
    filled = fill_with_mean(batch, torch.ones(2, 1, 64, 64))
    assert torch.equal(batch, before)
    assert_close(filled.std((2, 3)), torch.zeros(2, 3), rtol=0, atol=1e-12)


def test_without_fill_the_image_is_seen_as_it_is() -> None:
    model, batch = a2mim(fill=None), images()
    model.eval()
    plain = model.neck(model.backbone(batch, mask=CORNERS))
    assert torch.equal(model.reconstruct(batch, CORNERS)[0], plain)


def test_residual_predictions_are_relative_to_the_mean_colour() -> None:
    torch.manual_seed(1)
    plain = a2mim()
    torch.manual_seed(1)
    shifted = a2mim(residual=True)
    batch = images()
    plain.eval(), shifted.eval()
    difference = shifted.reconstruct(batch, CORNERS)[0] - plain.reconstruct(batch, CORNERS)[0]
    assert_close(difference, batch.mean((2, 3), keepdim=True).expand_as(batch), rtol=1e-10)


# ---------------------------------------------------------------- tokens
@pytest.mark.parametrize('kind', ['learnable', 'randn', 'zero', 'mean', 'instance_mean', 'none'])
@pytest.mark.parametrize('backbone', ['resnet', 'vit'])
def test_kinds_of_tokens(kind: str, backbone: str) -> None:
    model = a2mim(backbone, mask_kind=kind, mask_replace=True).backbone
    z = torch.randn((2, 16, 4, 4) if backbone == 'resnet' else (2, 16, 16), dtype=torch.float64, requires_grad=True)
    places = (2, 3) if backbone == 'resnet' else (1,)
    has = 'mask_token' in model.state_dict()
    assert has == (kind in ('learnable', 'randn', 'zero'))
    assert any(n == 'mask_token' for n, p in model.named_parameters() if p.requires_grad) == (kind == 'learnable')
    if kind == 'none':
        batch = images()
        model.eval()
        assert torch.equal(model(batch, mask=CORNERS)[-1], model(batch)[-1])
        return
    mixed = model.mask_features(z, torch.ones(2, 4, 4, dtype=torch.float64))
    wanted = {
        'mean': lambda: z.mean((0, *places), keepdim=True),
        'instance_mean': lambda: z.mean(places, keepdim=True),
    }.get(kind, lambda: model.mask_token)()
    assert_close(mixed, wanted.expand_as(z), rtol=1e-12)
    assert (kind == 'zero') == bool((mixed == 0).all())
    mixed.sum().backward()
    assert (z.grad.abs().sum() > 0) == (kind == 'instance_mean')


def test_a_detached_token_lets_no_gradient_into_masked_features() -> None:
    for detach in (True, False):
        model = a2mim(mask_detach=detach, mask_gain=0.5).backbone
        z = torch.randn(2, 16, 4, 4, dtype=torch.float64, requires_grad=True)
        mask = torch.zeros(2, 4, 4, dtype=torch.float64)
        mask[:, :2] = 1
        model.mask_features(z, mask).sum().backward()
        assert (z.grad[:, :, 2:] == 1).all()
        assert (z.grad[:, :, :2] == (0 if detach else 0.5)).all()


def test_a_gain_near_zero_starts_as_a_replacement() -> None:
    z, token = torch.randn(2, 8, 4, 4), torch.randn(1, 8, 1, 1)
    mask = torch.randint(0, 2, (2, 1, 4, 4)).float()
    replaced = mix_mask_token(z, mask, token)
    assert_close(mix_mask_token(z, mask, token, torch.full((1, 8, 1, 1), 1e-6), replace=False), replaced, rtol=1e-5)
    assert_close(mix_mask_token(z, mask, token, replace=False), z + token * mask, rtol=1e-6)


def test_a_token_that_starts_at_zero() -> None:
    model = a2mim(mask_std=0.0)
    assert (model.backbone.mask_token == 0).all()
    model.loss(images(), mask=CORNERS)['loss_spatial'].backward()
    assert model.backbone.mask_token.grad.abs().sum() > 0


# ---------------------------------------------------------------- backbones
@every_backbone
def test_every_backbone_learns_through_its_token_at_every_layer(kind: str) -> None:
    for layer in range(4):
        model = a2mim(kind, mask_layer=layer)
        losses = model.loss(images(), mask=CORNERS)
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert model.backbone.mask_token.grad.abs().sum() > 0
    with pytest.raises(ConfigError, match='is outside'):
        a2mim(kind, mask_layer=7)


def test_without_a_mask_it_is_the_plain_swin() -> None:
    sizes = {key: value for key, value in SWIN.items() if key != 'type'}
    masked, plain = MaskedSwin(**sizes), SwinTransformer(**sizes)
    assert masked.load_state_dict(plain.state_dict(), strict=False) == (['mask_token'], [])
    batch = torch.randn(2, 3, 64, 64)
    masked.eval(), plain.eval()
    assert torch.equal(masked(batch)[-1], plain(batch)[-1])
    assert depth_of(masked).layer_id('mask_token') == 0
    assert [masked.token_sites()[k].width for k in range(5)] == [8, 8, 16, 32, 64]


@pytest.mark.parametrize('kind', ['vit', 'swin'])
def test_a_mask_of_another_shape_does_not_fit_tokens(kind: str) -> None:
    for layer in (0, 2):
        model = a2mim(kind, mask_layer=layer)
        side = 4 if kind == 'vit' else 16 if layer == 0 else 8
        for shape in ((1, side * side), (2 * side, side // 2), (3, 3)):
            with pytest.raises(
                ConfigError, match=f'a mask of {shape[0]}x{shape[1]} blocks does not fit a map of {side}x'
            ):
                model.backbone(images(), mask=torch.ones(2, *shape, dtype=torch.float64))


def test_masks_of_rectangular_images_on_tokens() -> None:
    model = build({**BACKBONES['vit'][0], 'use_abs_pos_emb': False, 'use_rel_pos_bias': False}).double()
    seen: list[torch.Tensor] = []
    model.layers[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][:, 1:]))
    batch, mask = torch.randn(1, 3, 64, 128, dtype=torch.float64), torch.zeros(1, 2, 4, dtype=torch.float64)
    mask[0, 1, 3] = 1
    model.eval()
    model(batch, mask=mask)
    model(batch)
    put = (seen[0] != seen[1]).any(2).view(4, 8)
    assert put[2:, 6:].all()
    assert put.sum() == 4
    with pytest.raises(ConfigError, match='a mask of 8x4 blocks does not fit a map of 4x8'):
        model(batch, mask=torch.ones(1, 8, 4, dtype=torch.float64))


def test_initialisation_of_the_vit() -> None:
    model = MaskedBEiT(**{key: value for key, value in BEIT.items() if key != 'type'})
    model.init_weights()
    state = model.state_dict()
    for name in ('pos_embed', 'cls_token', 'mask_token', 'layers.1.attn.qkv.weight', 'layers.2.ffn.layers.1.weight'):
        assert 0.01 < state[name].std() < 0.03, name
    assert all((v == 0).all() for n, v in state.items() if n.endswith('relative_position_bias_table'))
    assert all((v == 0).all() for n, v in state.items() if n.endswith(('q_bias', 'v_bias', 'proj.bias')))
    assert all(torch.allclose(v, torch.tensor(0.1)) for n, v in state.items() if n.endswith(('gamma_1', 'gamma_2')))
    assert model.depth.num_blocks == 3


def test_a_deeper_resnet() -> None:
    with torch.device('cpu'):
        model = SelfSupResNet(depth=200, base_channels=2, stem_channels=2)
    assert model.stage_blocks == (3, 24, 36, 3)
    assert depth_of(model).num_blocks == 66
    names = [name for name, _ in model.named_parameters()]
    assert 'layer3.35.conv3.weight' in names


@pytest.mark.parametrize('patch', [15, 60])
def test_a_patch_that_does_not_divide_the_image(patch: int) -> None:
    with pytest.raises(ConfigError, match=f'img_size 64 is not a multiple of patch_size {patch}'):
        SelfSupBEiT(arch=ARCH, img_size=64, patch_size=patch)


# ---------------------------------------------------------------- losses
def slow_spectrum(picture: np.ndarray) -> np.ndarray:
    """Orthonormal DFT of [H, W] by its definition."""
    height, width = picture.shape
    rows = np.exp(-2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height)
    columns = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width)
    return rows @ picture @ columns / np.sqrt(height * width)


@pytest.mark.parametrize('average', [True, False])
@pytest.mark.parametrize('log', [True, False])
@pytest.mark.parametrize('batch', [True, False])
def test_focal_frequency_loss_by_definition(average: bool, log: bool, batch: bool) -> None:
    """The per-image maximum, batch_matrix=False, is where the released code fails."""
    difference = np.random.default_rng(0).normal(size=(3, 2, 5, 6))
    pictures = difference.mean(0, keepdims=True) if average else difference
    squared = np.stack([[np.abs(slow_spectrum(channel)) ** 2 for channel in image] for image in pictures])
    weight = squared**0.5
    weight = np.log(weight + 1) if log else weight
    weight = weight / (weight.max() if batch else weight.max((2, 3), keepdims=True))
    options = dict(average_spectrum=average, log_matrix=log, batch_matrix=batch)
    assert_close(focal_frequency_loss(torch.from_numpy(difference), **options), (weight * squared).mean(), rtol=1e-10)


def test_no_difference_no_loss_and_no_gradient() -> None:
    difference = torch.zeros(2, 3, 8, 8, requires_grad=True)
    for loss in (
        focal_frequency_loss(difference, average_spectrum=True, log_matrix=True, batch_matrix=True),
        focal_frequency_loss(difference),
        fourier_error(difference, mode='focal_l1'),
        fourier_error(difference, mode='l1', reweight=True),
    ):
        (gradient,) = torch.autograd.grad(loss, difference)
        assert loss == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize('mode', ['l1', 'mse', 'focal_l1', 'focal_mse'])
@pytest.mark.parametrize('activate', ['sigmoid', 'tanh'])
@pytest.mark.parametrize('residual', [True, False])
def test_regression_errors_by_hand_also_of_complex_numbers(mode: str, activate: str, residual: bool) -> None:
    for difference in (torch.randn(20, dtype=torch.float64), torch.randn(20, dtype=torch.complex128)):
        found = regression_error(difference, mode, 0.7, 1.5, activate, residual)
        for value, error in zip(difference.tolist(), found.tolist()):
            plain = abs(value) ** (1 if mode.endswith('l1') else 2)
            phi = np.tanh(0.7 * abs(value)) if activate == 'tanh' else 2 / (1 + np.exp(-0.7 * abs(value))) - 1
            wanted = plain * (phi**1.5 + residual) if mode.startswith('focal') else plain
            assert error == pytest.approx(wanted, rel=1e-9)


def test_squared_errors_in_frequency_obey_parseval() -> None:
    """An orthonormal transform keeps the sum of squares; the released code fails on complex squares."""
    difference = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    assert_close(fourier_error(difference, mode='mse'), difference.square().mean(), rtol=1e-12)


@pytest.mark.parametrize('replace', ['target', 'prediction', 'mean', 'mixed', None])
def test_what_is_transformed_where_the_image_is_visible(replace: str | None) -> None:
    head = build(dict(type='A2MIMHead', mode='mse', fft_weight=1.0, fft_focal=False, fft_unmask_replace=replace))
    target, prediction = images(), images().requires_grad_()
    fourier = head.loss(prediction, target, CORNERS)['loss_fourier']
    visible = {
        'prediction': prediction.detach(),
        'mean': target.mean((2, 3), keepdim=True).expand_as(target),
        'mixed': (prediction.detach() + target) / 2,
    }.get(replace, target)
    hidden = CORNERS.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None]
    wanted = (torch.where(hidden.bool(), prediction, visible) - target).square().mean()
    assert_close(fourier, wanted, rtol=1e-10)
    fourier.backward()
    assert (prediction.grad[hidden.expand_as(target) == 0] == 0).all()


def test_losses_stay_in_float32_and_change_no_settings() -> None:
    settings = dict(type='A2MIMHead', mode='focal_l1', fft_weight=0.5, fft_unmask_weight=1e-3)
    head = build(settings)
    before = dict(vars(head))
    target, prediction = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = head.loss(prediction.bfloat16(), target, mask)
    plain = head.loss(prediction.bfloat16().float(), target, mask)
    assert half.keys() == plain.keys() == {'loss_spatial', 'loss_fourier'}
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, plain[name])
    assert dict(vars(head)) == before


def test_the_block_before_the_prediction() -> None:
    neck = build(dict(type='PixelShuffleNeck', in_channels=6, stride=4, block_kernel=5))
    neck.init_weights()
    features = torch.randn(2, 6, 3, 3)
    assert neck((features,)).shape == (2, 3, 12, 12)
    assert sum(p.numel() for p in neck.block.parameters()) == 6 * 25 + 12  # no bias
    single = features.clone()
    single[:, :, 0, 0] += 1
    changed = (neck((single,)) != neck((features,))).any(1)
    assert changed[:, :12, :12].sum() == changed.sum() == 2 * 12 * 12  # five positions wide


@pytest.mark.parametrize('kernel', [1, 3, 5])
def test_the_kernel_that_predicts_keeps_the_grid(kernel: int) -> None:
    neck = build(dict(type='PixelShuffleNeck', in_channels=6, stride=2, kernel_size=kernel)).double()
    features = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    weight, bias = neck.decoder[0].weight, neck.decoder[0].bias
    wide = torch.zeros(2, 6, 4 + kernel - 1, 5 + kernel - 1, dtype=torch.float64)  # zeros around the map
    around = kernel // 2
    wide[:, :, around : around + 4, around : around + 5] = features
    images = neck((features,))
    assert images.shape == (2, 3, 8, 10)
    for row, column in ((0, 0), (3, 4), (1, 2)):
        seen = wide[:, :, row : row + kernel, column : column + kernel]
        pixels = torch.einsum('bchw,ochw->bo', seen, weight) + bias  # [B, 3 * 2 * 2]
        found = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.allclose(found.flatten(1), pixels)


@pytest.mark.parametrize('kernel', [0, 2, 4, -1])
def test_a_kernel_that_changes_the_grid_is_refused(kernel: int) -> None:
    with pytest.raises(ConfigError, match=f'kernel_size={kernel} must be odd'):
        build(dict(type='PixelShuffleNeck', in_channels=6, stride=2, kernel_size=kernel))


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='l2'), "unknown mode 'l2'; choose from l1, mse, focal_l1, focal_mse"),
        (dict(activate='relu'), "unknown activate 'relu'"),
        (dict(fft_unmask_replace='zero'), "unknown fft_unmask_replace 'zero'"),
        (dict(unmask_weight=1.5), r'unmask_weight=1\.5'),
        (dict(fft_unmask_weight=-0.1), r'fft_unmask_weight=-0\.1'),
        (dict(fft_weight=-1.0), r'fft_weight=-1\.0'),
        (dict(alpha=0.0), r'alpha=0\.0 must be greater than 0'),
        (dict(gamma=0.5), r'gamma=0\.5 at least 1'),
        (dict(fft_reweight=True), 'fft_reweight acts only with fft_focal=False'),
    ],
)
def test_impossible_heads(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(dict(type='A2MIMHead', **options))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(fill='median'), "fill is 'median'; choose 'mean' or None"),
        (dict(mask_ratio=0.0), r'A2MIM: mask_ratio=0\.0 must lie'),
        (dict(mask_kind='random'), "mask_kind='random' must be one of learnable"),
        (dict(mask_std=-1.0), r'mask_std=-1\.0 not negative'),
        (dict(mask_kind='none', mask_gain=0.1), 'acts only with mask_replace=False and a token'),
    ],
)
def test_impossible_models(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a2mim(**options)


def test_a_backbone_without_a_token() -> None:
    neck = dict(type='PixelShuffleNeck', in_channels=16, stride=4)
    with pytest.raises(ConfigError, match=r'A2MIM needs a backbone with a mask token .*got SelfSupViT'):
        build(dict(type='A2MIM', backbone=vit_config(), neck=neck, head=dict(type='A2MIMHead')))


@pytest.mark.parametrize(
    ('size', 'patch', 'message'), [(64, 20, 'mask_patch=20 does not divide'), (64, 8, '8x8 blocks')]
)
def test_impossible_masks(size: int, patch: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a2mim(mask_patch=patch).loss(images(size=size))
