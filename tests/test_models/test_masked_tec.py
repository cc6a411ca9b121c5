"""MaskedTEC beside its slow form (test_references.py): averages over areas, masked positions, what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
import reference.masked_tec as slow
import reference.tec as slow_tec
import torch
from helpers import assert_close, build, mlp_config, moco_config, vit_config, write_base_model
from reference import simmim
from torch import nn

from mmselfsup_graft.checkpoints import read_encoder, save_atomically
from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.models.losses import area_weights, attention_row_loss, hidden_feature_loss
from mmselfsup_graft.models.masking import masked_positions

CONVNEXT = {
    'type': 'MaskedConvNeXt',
    'arch': {'depths': [1, 1], 'channels': [8, 16]},
    'stem_patch_size': 2,
    'out_indices': (1,),
    'gap_before_final_norm': False,
}
SWIN = {
    'type': 'MaskedSwin',
    'img_size': 16,
    'patch_size': 2,
    'window_size': 2,
    'arch': {'embed_dims': 8, 'depths': [1, 1], 'num_heads': [2, 2]},
    'out_indices': (1,),
}
BEIT = {'type': 'MaskedBEiT', 'img_size': 16, 'patch_size': 4, 'arch': vit_config(depth=2)['arch']}
BACKBONES = {
    # open residual branches: with closed ones a token below 0 reaches nothing behind the first rectifier
    'ResNet': {
        'type': 'MaskedResNet',
        'depth': 18,
        'stem_channels': 4,
        'base_channels': 4,
        'zero_init_residual': False,
    },
    'ResNet for small images': slow.resnet(),
    'ConvNeXt': CONVNEXT,
    'Swin': SWIN,
    'ViT': slow.VIT,
    'BEiT': {**BEIT, 'out_type': 'featmap'},
}


def loaded(config: dict[str, Any], folder: Path) -> Any:
    """The model with fresh weights and those of a base model, in double precision."""
    torch.manual_seed(1)
    model = build({**config, 'base_checkpoint': write_base_model(config, folder / 'base.pth')})
    model.init_weights()
    return model.double().train()


def images(size: int = 16, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64)


# ---------------------------------------------------------------- averages over areas
GRIDS = [((4, 4), (2, 2)), ((2, 2), (4, 4)), ((7, 7), (3, 3)), ((3, 3), (7, 7)), ((4, 6), (3, 4)), ((5, 5), (5, 5))]


@pytest.mark.parametrize(('source', 'target'), GRIDS)
def test_means_over_areas(source: slow.Grid, target: slow.Grid) -> None:
    cells, positions = source[0] * source[1], target[0] * target[1]
    values = torch.randn(2, cells, 3, dtype=torch.float64)
    weights = area_weights(source, target, like=values)
    assert weights.shape == (positions, cells)
    assert_close(weights @ values, slow.mean_over_area(values, source, target), rtol=1e-13)
    assert_close(weights.sum(1), torch.ones(positions), rtol=1e-13)
    shares = values[..., 0].softmax(-1)
    pooled = cells / positions * shares @ weights.T
    assert_close(pooled, slow.spread_over_area(shares, source, target), rtol=1e-13)
    assert_close(pooled.sum(-1), torch.ones(2), rtol=1e-13)


def test_whole_multiples_are_average_pooling() -> None:
    values = torch.randn(2, 3, 6, 8)
    pooled = area_weights((6, 8), (3, 4), like=values) @ values.flatten(2).mT
    assert_close(pooled, nn.functional.avg_pool2d(values, 2).flatten(2).mT, rtol=1e-6)


def test_weights_are_single_precision_at_least() -> None:
    assert area_weights((2, 2), (3, 3), like=torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(('source', 'target'), GRIDS)
def test_losses_of_averaged_targets(source: slow.Grid, target: slow.Grid) -> None:
    cells, positions = source[0] * source[1], target[0] * target[1]
    features, prediction = (torch.randn(2, n, 5, dtype=torch.float64) for n in (cells, positions))
    hidden = torch.stack([torch.randperm(positions)[:2] for _ in range(2)])
    chosen = prediction.gather(1, hidden[..., None].expand(-1, -1, 5))
    pool = area_weights(source, target, like=features)
    mask = torch.zeros(2, positions, dtype=torch.float64).scatter(1, hidden, 1.0)
    expected = slow_tec.feature_loss(prediction, slow.mean_over_area(features, source, target), mask)
    assert_close(hidden_feature_loss(chosen, features, hidden, pool), expected, rtol=1e-12)

    attention, logits = (torch.randn(2, 3, 2, n, dtype=torch.float64) for n in (cells, positions))
    shares = slow.spread_over_area((attention / 1.4).softmax(-1), source, target)
    expected = -(shares * logits.log_softmax(-1)).sum(-1).mean()
    assert_close(attention_row_loss(logits, attention, 1.4, pool), expected, rtol=1e-12)


def test_grids_that_are_not_multiples(tmp_path: Path) -> None:
    """2 x 2 positions for 3 x 3 patches: one patch lies in all four."""
    vit = {**slow.VIT, 'img_size': 12, 'patch_size': 6}
    model = loaded(slow.config(vit, base={'img_size': 12, 'patch_size': 4}), tmp_path)
    batch, noise = images(12), torch.rand(3, 2, 2)
    ours, expected = model.loss(batch, noise=noise), slow.losses(model, batch, noise=noise)
    for name, value in expected.items():
        assert_close(ours[name], value, rtol=1e-10, name=name)


# ---------------------------------------------------------------- masks
def test_masked_positions() -> None:
    mask = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])
    assert masked_positions(mask, 1, (2, 2)).tolist() == [[1], [2]]
    assert masked_positions(mask, 1, (4, 4)).tolist() == [[2, 3, 6, 7], [8, 9, 12, 13]]


def test_features_are_compared_at_masked_positions_alone(tmp_path: Path) -> None:
    model = loaded(slow.config(slow.resnet(strides=(1, 2, 2, 1))), tmp_path)
    batch, noise = images(), torch.rand(3, 4, 4)
    mask = simmim.draw(model, batch, noise).flatten(1)  # [B, M]
    assert mask.sum(1).tolist() == [10.0] * 3  # ceil(0.6 * 16)
    targets = model.base_model.targets(batch)
    before = model.masked_losses(batch, targets, noise)
    # the target is normalized over the whole map: exchanging two visible positions changes neither mean nor deviation
    feature = targets.feature.clone()
    for image in range(3):
        one, other = (mask[image] == 0).nonzero()[:2, 0]
        feature[image, [one, other]] = feature[image, [other, one]]
    after = model.masked_losses(batch, targets._replace(feature=feature), noise)
    assert_close(after['loss_feature'], before['loss_feature'], rtol=1e-10)
    hidden = masked_positions(mask.view(3, 4, 4), 10, (4, 4))
    feature = feature.scatter_add(1, hidden[:, :1, None].expand(-1, -1, 16), torch.ones(3, 1, 16).double())
    after = model.masked_losses(batch, targets._replace(feature=feature), noise)
    assert abs(after['loss_feature'] - before['loss_feature']) > 1e-4


def test_the_new_model_does_not_see_masked_pixels(tmp_path: Path) -> None:
    model = loaded(slow.config(slow.VIT), tmp_path)
    batch, noise = images(), torch.rand(3, 4, 4)
    hidden = simmim.enlarge(simmim.draw(model, batch, noise), 16)[:, None]
    targets = model.base_model.targets(batch)
    one, two = (model.masked_losses(batch + shift * hidden, targets, noise) for shift in (0, 3))
    for name, value in one.items():
        assert_close(two[name], value, rtol=1e-12, name=name)


def test_masks_come_from_the_seed(tmp_path: Path) -> None:
    model, batch = loaded(slow.config(), tmp_path), images()
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(model.loss(batch)['loss_feature'].item())
    assert found[0] == found[1]
    assert found[0] != found[2]


# ---------------------------------------------------------------- who learns
@pytest.mark.parametrize('topk', [3, None])
@pytest.mark.parametrize('name', BACKBONES)
def test_gradient_reaches_every_parameter_of_the_new_model_alone(name: str, topk: int | None, tmp_path: Path) -> None:
    size = 64 if name == 'ResNet' else 16
    config = slow.config(BACKBONES[name], topk=topk, base={'img_size': size, 'patch_size': size // 4})
    model = loaded(config, tmp_path)
    before = {key: value.clone() for key, value in model.base_model.state_dict().items()}
    losses = model.loss(images(size))
    assert set(losses) == {'loss_feature'} | ({'loss_attention'} if topk else set())
    sum(losses.values()).backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert 'backbone.mask_token' in trained
    assert not [key for key, p in trained.items() if p.grad is None or not p.grad.isfinite().all()]
    assert model.backbone.mask_token.grad.abs().sum() > 0
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert all(torch.equal(value, before[key]) for key, value in model.base_model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.base_model.parameters())


def test_the_base_model_is_in_no_state_and_in_no_optimizer(tmp_path: Path) -> None:
    model = loaded(slow.config(), tmp_path)
    own = {id(parameter) for parameter in model.base_model.parameters()}
    assert not [key for key in model.state_dict() if 'base' in key]
    wrapper = LayerWiseLRConstructor(dict(optimizer=dict(type='AdamW', lr=1e-3)), dict(no_decay_1d=True))(model)
    assert not own & {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
    assert {p.dtype for p in model.base_model.parameters()} == {torch.float64}  # it was converted with the model
    other = copy.deepcopy(model)
    assert other.base_model is not model.base_model


def test_bfloat16_autocast_agrees_with_float32(tmp_path: Path) -> None:
    model, batch, noise = loaded(slow.config(), tmp_path).float().eval(), images().float(), torch.rand(3, 2, 2)
    with torch.no_grad():
        exact = model.loss(batch, noise=noise)
        with torch.autocast('cpu', torch.bfloat16):
            half = model.loss(batch, noise=noise)
    for name, value in exact.items():
        assert half[name].dtype == torch.float32
        assert half[name] == pytest.approx(float(value), rel=0.03)


# ---------------------------------------------------------------- where the encoder goes
def test_its_encoder_is_grafted_into_contrastive_learning(tmp_path: Path) -> None:
    model = loaded(slow.config(), tmp_path).float()
    save_atomically({'state_dict': model.state_dict()}, tmp_path / 'tec.pth')
    encoder = read_encoder(tmp_path / 'tec.pth')
    assert encoder.format == 'openmmlab'
    contrastive = moco_config({'arch': {'embed_dims': 32}}, graft=[{'checkpoint': str(tmp_path / 'tec.pth')}])
    contrastive['backbone'] = {**slow.resnet(), 'type': 'mmpretrain.ResNet_CIFAR'}
    contrastive['neck'] = mlp_config(32, 32, 8, 2, with_avg_pool=True)
    learner = build(contrastive)
    learner.init_weights()
    source, found = model.backbone.state_dict(), learner.backbone.state_dict()
    assert set(source) - set(found) == {'mask_token'}
    assert all(torch.equal(value, source[key]) for key, value in found.items())
    assert learner.loss([images().float(), images().float()])['loss'].isfinite()
    # and back
    save_atomically({'state_dict': learner.state_dict()}, tmp_path / 'moco.pth')
    again = build(slow.config(graft=[{'checkpoint': str(tmp_path / 'moco.pth')}], frozen_layers=2))
    again.init_weights()
    assert torch.equal(again.backbone.layer4[0].conv1.weight, found['layer4.0.conv1.weight'])
    assert again.backbone.mask_token.requires_grad


# ---------------------------------------------------------------- sizes
def test_a_config_states_the_sizes_of_its_backbone_alone() -> None:
    wide = vit_config(width=24, heads=3)['arch']
    model = build(slow.config({**slow.resnet(), 'in_channels': 1}, base={'arch': wide}))
    assert model.base_model.patch_embed.projection.in_channels == 1
    assert (model.mask_patch, model.hidden_blocks) == (8, 3)  # the stride; ceil(0.6 * 4)
    neck = model.neck
    assert (neck.feature.in_features, neck.feature.out_features, neck.target_num_heads) == (32, 24, 3)
    assert neck.attention.out_features == 48
    assert neck.attention_scale == 24**-0.5
    assert build(slow.config(topk=None)).neck.attention is None


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mask_patch=4), 'mask_patch=4 is not a multiple of 8, the stride of the backbone'),
        (dict(mask_patch=0), 'mask_patch=0 must be at least 1 pixel'),
        (dict(mask_patch=24), 'mask_patch=24 does not divide images of 16x16 pixels'),
        (dict(mask_patch=16), 'hides 1 of the 1 blocks'),
        (dict(mask_ratio=0.9), 'hides 4 of the 4 blocks'),
        (dict(mask_ratio=1.0), r'MaskedTEC: mask_ratio=1\.0 must lie between 0 and 1'),
        (dict(base=dict(in_channels=1)), r'base_model\.in_channels=1, but .* must be 3; leave it out'),
        (dict(base=dict(topk=17)), r'topk=17 is outside 1\.\.16'),
        (dict(base=dict(type='SelfSupViT')), 'base_model must be a TargetViT, got SelfSupViT'),
        (dict(neck=dict(type='TECMapNeck', target_dim=8)), r'neck\.target_dim=8'),
        (dict(neck=dict(type='TECMapNeck', in_channels=8)), r'neck\.in_channels=8, but .* must be 32'),
        (dict(neck=dict(type='TECMapNeck', hidden_channels=0)), 'hidden_channels=0 must be at least 1'),
        (dict(backbone={**CONVNEXT, 'gap_before_final_norm': True}), 'needs a backbone whose last feature is a map'),
        (dict(backbone=vit_config()), r'MaskedTEC needs a backbone with a mask token .*got SelfSupViT'),
    ],
)
def test_impossible_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(slow.config(**options))


def test_what_is_refused_before_a_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='images of 24 x 24 for a model of 16 x 16'):
        loaded(slow.config(), tmp_path).loss(images(24))
    with pytest.raises(ConfigError, match=r'MaskedTEC needs a map .*out_type="featmap"'):
        loaded(slow.config({**slow.VIT, 'out_type': 'cls_token'}), tmp_path).loss(images())
    with pytest.raises(ConfigError, match='no base model'):
        build(slow.config()).loss(images().float())
    with pytest.raises(CheckpointError, match=r'base model: .*does not exist'):
        build({**slow.config(), 'base_checkpoint': 'absent.pth'}).init_weights()
    with pytest.raises(ConfigError, match='which rows to predict'):
        build({'type': 'TECMapNeck', 'in_channels': 4})(torch.zeros(1, 4, 2, 2), torch.zeros(1, 1).long(), (2, 2))
