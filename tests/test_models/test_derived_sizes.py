"""Sizes of necks and heads follow from the encoder, and a size that does not fit is refused with both numbers."""

from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import derived_sizes
from mmselfsup_graft.models.derived_sizes import check_images, sizes_of
from mmselfsup_graft.registry import MODELS

ROOT = 'configs'
TINY = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
ENCODERS = [
    dict(type='SelfSupViT', arch=TINY, img_size=12, patch_size=4, in_channels=2),
    dict(type='MaskedViT', arch=TINY, img_size=12, patch_size=6, in_channels=1, out_type='featmap'),
    dict(type='MaskedBEiT', arch={**TINY}, img_size=12, patch_size=4),
    dict(type='MaskedResNet', depth=18, base_channels=8, stem_channels=8),
    dict(type='MaskedResNetCIFAR', depth=18, in_channels=1, stem_channels=8, base_channels=8, strides=(1, 2, 1, 1)),
    dict(type='MaskedConvNeXt', arch=dict(depths=[1, 1], channels=[8, 16]), out_indices=(1,), stem_patch_size=2),
    dict(
        type='MaskedSwin',
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
        img_size=32,
        window_size=4,
        out_indices=(1,),
    ),
]


@pytest.mark.parametrize('config', ENCODERS, ids=lambda config: config['type'])
def test_sizes_are_those_of_a_forward_pass(config: dict[str, Any]) -> None:
    if 'ConvNeXt' in config['type']:
        config = {**config, 'gap_before_final_norm': False}
    encoder = MODELS.build(config)
    encoder.eval()
    sizes = sizes_of(encoder)
    side = config.get('img_size', 64)
    feature = encoder(torch.zeros(1, config.get('in_channels', 3), side, side))[-1]
    assert sizes.channels == feature.shape[1]
    assert sizes.in_channels == config.get('in_channels', 3)
    if feature.dim() == 4:
        assert sizes.stride == side // feature.shape[-1]
    if 'patch_size' in config:
        assert sizes.num_patches == (side // config['patch_size']) ** 2


def test_measuring_leaves_the_encoder_as_it_was() -> None:
    encoder = MODELS.build(ENCODERS[4])
    encoder.train()
    encoder.layer1.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(0)
    sizes_of(encoder)
    assert torch.equal(torch.rand(1), torch.manual_seed(0) and torch.rand(1))
    assert encoder.training
    assert not encoder.layer1.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def mae(**neck: Any) -> dict[str, Any]:
    return dict(
        type='MAE',
        backbone=ENCODERS[0],
        neck=dict(type='MAEDecoder', decoder_embed_dim=8, decoder_depth=1, decoder_num_heads=2, **neck),
        head=dict(
            type='mmpretrain.MAEPretrainHead',
            loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
        ),
    )


def simmim(**neck: Any) -> dict[str, Any]:
    neck = dict(type='PixelShuffleNeck', **neck)
    return dict(type='SimMIM', mask_patch=4, backbone=ENCODERS[4], neck=neck, head=dict(type='SimMIMHead'))


def contrastive(kind: str, head: dict[str, Any], **neck: Any) -> dict[str, Any]:
    pooled = dict(type='mmpretrain.NonLinearNeck', hid_channels=8, out_channels=6, norm_cfg=dict(type='BN1d'), **neck)
    return dict(type=kind, backbone=ENCODERS[4], neck=pooled, head=head)


def moco(predictor: dict[str, Any] | None = None, **neck: Any) -> dict[str, Any]:
    predictor = dict(
        type='mmpretrain.NonLinearNeck',
        hid_channels=8,
        norm_cfg=dict(type='BN1d'),
        with_avg_pool=False,
        **(predictor or {}),
    )
    return contrastive('MoCoV3', dict(type='ContrastiveHead', predictor=predictor), **neck)


def classifier(**head: Any) -> dict[str, Any]:
    return dict(
        type='GraftedClassifier',
        backbone=dict(type='SelfSupViT', arch=TINY, img_size=12, patch_size=4, in_channels=2),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=5, loss=dict(type='mmpretrain.CrossEntropyLoss'), **head
        ),
    )


def multi_task(**neck: Any) -> dict[str, Any]:
    one = {key: value for key, value in mae(**neck).items() if key != 'backbone'}
    objectives = dict(a=dict(model=one, views=0), b=dict(model=one, views=0))
    return dict(type='MultiTask', backbone=ENCODERS[0], objectives=objectives)


def test_sizes_that_are_left_out_follow_from_the_encoder() -> None:
    images = torch.rand(2, 2, 12, 12)
    assert MODELS.build(mae()).loss(images)['loss'].isfinite()
    assert MODELS.build(simmim()).loss(torch.rand(2, 1, 16, 16))['loss'].isfinite()
    views = [torch.rand(4, 1, 16, 16)] * 2
    assert MODELS.build(moco()).loss(views)['loss'].isfinite()
    assert MODELS.build(contrastive('JointEmbedding', dict(type='NTXentHead'))).loss(views)['loss'].isfinite()
    assert MODELS.build(classifier())(images).shape == (2, 5)
    assert set(MODELS.build(multi_task()).loss([images])) == {'loss_a', 'loss_b'}


@pytest.mark.parametrize(
    ('config', 'numbers'),
    [
        (mae(patch_size=2), ('2', '4')),
        (mae(num_patches=16), ('16', '9')),
        (mae(in_chans=3), ('3', '2')),
        (mae(embed_dim=32), ('32', '24')),
        ({**mae(), 'head': {**mae()['head'], 'patch_size': 6}}, ('6', '4')),
        ({**mae(), 'head': {**mae()['head'], 'in_channels': 3}}, ('3', '2')),
        (simmim(in_channels=32), ('32', '64')),
        (simmim(stride=4), ('4', '2')),
        (simmim(out_channels=3), ('3', '1')),
        (moco(in_channels=512), ('512', '64')),
        (moco(predictor=dict(in_channels=8)), ('8', '6')),
        (moco(predictor=dict(out_channels=8)), ('8', '6')),
        (contrastive('JointEmbedding', dict(type='VICRegHead'), in_channels=16), ('16', '64')),
        (classifier(in_channels=384), ('384', '24')),
        (multi_task(patch_size=3), ('3', '4')),
        ({**mae(), 'data_preprocessor': dict(mean=[1.0] * 3, std=[1.0] * 3)}, ('3', '2')),
        ({**classifier(), 'data_preprocessor': dict(mean=[1.0] * 3, std=[1.0] * 3)}, ('3', '2')),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_both_numbers(config: dict[str, Any], numbers: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as error:
        MODELS.build(ConfigDict(config))
    assert all(number in str(error.value) for number in numbers)


@pytest.mark.parametrize(
    ('path', 'patch'),
    [
        ('mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px.py', 16),
        ('mae/mae_vit-micro-p4_1xb64-coslr-210e_digits-16px.py', 8),
    ],
)
def test_a_patch_size_from_the_command_line_reaches_every_part(path: str, patch: int) -> None:
    cfg = Config.fromfile(f'{ROOT}/{path}')
    cfg.merge_from_dict({'model.backbone.patch_size': patch})
    model = MODELS.build(cfg.model)
    size = cfg.model.backbone.img_size
    channels = cfg.model.backbone.in_channels
    assert model.reconstruct(torch.rand(2, channels, size, size))[0].shape == (2, channels, size, size)
    assert model.head.patch_size == patch


@pytest.mark.parametrize(
    ('config', 'images'),
    [
        (mae(), torch.rand(2, 3, 12, 12)),
        (simmim(), torch.rand(2, 3, 16, 16)),
        (moco(), [torch.rand(4, 3, 16, 16)] * 2),
        (contrastive('JointEmbedding', dict(type='NTXentHead')), [torch.rand(4, 2, 16, 16)] * 2),
        (classifier(), torch.rand(2, 1, 12, 12)),
        (multi_task(), [torch.rand(2, 1, 12, 12)]),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_images_of_other_channels_are_refused(config: dict[str, Any], images: Any) -> None:
    with pytest.raises(ConfigError, match=r'the images have \d channels .* backbone.in_channels is \d'):
        MODELS.build(config)(images, mode='loss')


def test_images_of_another_size_are_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(derived_sizes, 'print_log', lambda text, **_: said.append(text))
    backbone = torch.nn.Module()
    backbone.img_size = (32, 32)
    for size in (32, 64, 64):
        derived_sizes.check_images('MoCoV3', backbone, [torch.zeros(1, 3, size, size), torch.zeros(1, 3, 8, 8)])
    assert len(said) == 1
    assert said[0].startswith('MoCoV3: images of 64 x 64 for a backbone of 32 x 32')


@pytest.mark.parametrize('size', [(16, 16), (24, 24), (28, 32), (32, 32), (25, 40), (13, 64)])
@pytest.mark.parametrize('padded', [False, True])
def test_images_too_small_for_the_windows_of_a_swin_are_refused(size: tuple[int, int], padded: bool) -> None:
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1])
    options = dict(img_size=32, window_size=4, out_indices=(1,), pad_small_map=padded)
    swin = MODELS.build(dict(type='mmpretrain.SwinTransformer', arch=arch, **options))
    images = torch.zeros(1, 3, *size)
    try:
        swin(images)
    except AssertionError:
        assert not padded
        with pytest.raises(ConfigError, match=f'{size[0]} x {size[1]} give stage . of the Swin a map of'):
            check_images('SwAV', swin, [images])
    else:
        check_images('SwAV', swin, [images])
