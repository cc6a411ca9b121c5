"""What the configs say, against the published settings as far as there are any (specification, sections B, D and E)."""

from typing import Any

import pytest
from mmengine.config import Config
from tiny_downstream import CONFIGS, DETECTION, SEGMENTATION

from mmselfsup_graft.engine.train import load_config

RGB = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
SYNCBN = dict(type='SyncBN', requires_grad=True)


def detector(name: str) -> Config:
    return load_config(CONFIGS / 'mmdetection' / f'mask-rcnn_{name}_coco.py')


def segmentor(start: str) -> Config:
    (path,) = [path for path in SEGMENTATION if path.stem.startswith(start)]
    return load_config(path)


def has(section: Any, **expected: Any) -> None:
    found = {key: section.get(key) for key in expected}
    assert found == expected


def schedule(cfg: Config) -> tuple[int, int, list[int]]:
    """Iterations of warm-up, epochs, epochs after which the rate drops."""
    warm_up, steps = cfg.param_scheduler
    has(warm_up, type='LinearLR', start_factor=0.001, by_epoch=False, begin=0)
    has(steps, type='MultiStepLR', begin=0, by_epoch=True, gamma=0.1)
    assert steps.end == cfg.train_cfg.max_epochs
    return warm_up.end, steps.end, steps.milestones


@pytest.mark.parametrize('path', DETECTION, ids=lambda path: path.stem)
def test_images_of_every_detector(path):
    cfg = load_config(path)
    has(cfg.model.data_preprocessor, **RGB, pad_mask=True)
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.val_evaluator.metric == ['bbox', 'segm']
    scale = (800, 800) if 'vit-base-p16-a2mim' in path.stem else (1333, 800)
    assert [tuple(step.scale) for step in cfg.test_dataloader.dataset.pipeline if step.type == 'Resize'] == [scale]
    has(cfg.train_dataloader.dataset.pipeline[3], type='RandomFlip', prob=0.5)


SCHEDULES = {
    'ms-1x': (500, 12, [8, 11]),
    'ms-2x': (500, 24, [16, 22]),
    'ms-2x of A2MIM': (1000, 24, [16, 23]),
}


@pytest.mark.parametrize('path', [p for p in DETECTION if 'syncbn' in p.stem], ids=lambda path: path.stem)
def test_resnets_with_synchronized_norms(path):
    cfg = load_config(path)
    kind = 'ms-2x of A2MIM' if 'a2mim' in path.stem and '2x' in path.stem else path.stem.split('_')[-2]
    assert schedule(cfg) == SCHEDULES[kind]
    has(cfg.optim_wrapper.optimizer, type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
    has(cfg.model.backbone, type='ResNet', depth=50, style='pytorch', frozen_stages=-1, norm_eval=False)
    has(cfg.model.backbone, norm_cfg=SYNCBN)
    scales = cfg.train_dataloader.dataset.pipeline[2].scales
    assert scales == [(1333, edge) for edge in (640, 672, 704, 736, 768, 800)]
    head = cfg.model.roi_head
    if '_c4' in path.stem:
        has(cfg.model.backbone, num_stages=3, out_indices=(2,), strides=(1, 2, 2))
        has(head.shared_head, type='mmselfsup_graft.ResLayerExtraNorm', depth=50, stage=3, stride=2, norm_cfg=SYNCBN)
        assert head.shared_head.init_cfg == cfg.model.backbone.init_cfg
    else:
        has(head.bbox_head, type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=SYNCBN)
        has(head.mask_head, norm_cfg=SYNCBN)
        has(cfg.model.neck, type='FPN', norm_cfg=SYNCBN)


@pytest.mark.parametrize('method', ['mae', 'layer-grafted', 'tec'])
def test_plain_vits(method):
    cfg = detector(f'vit-base-p16-{method}-pre_fpn_ms-1x')
    assert schedule(cfg) == (500, 12, [8, 11])
    has(cfg.optim_wrapper.optimizer, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(
        layer_wise_decay_ratio=0.75, no_decay_names=['pos_embed', 'cls_token']
    )
    has(cfg.model.backbone, type='mmpretrain.VisionTransformer', arch='base', patch_size=16, drop_path_rate=0.2)
    has(cfg.model.backbone, out_indices=[3, 5, 7, 11], out_type='featmap', final_norm=False)
    pyramid, fpn = cfg.model.neck
    has(pyramid, embed_dim=768, rescales=[4, 2, 1, 0.5])
    has(fpn, in_channels=[768] * 4, out_channels=256, num_outs=5)


def test_a2mims_vit_in_a_detector():
    cfg = detector('vit-base-p16-a2mim-pre_fpn_ms-1x')
    assert schedule(cfg) == (500, 12, [9, 11])
    has(cfg.optim_wrapper.optimizer, type='AdamW', lr=3e-4, weight_decay=0.05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(
        no_decay_1d=True, no_decay_names=['pos_embed', 'cls_token', 'relative_position_bias_table']
    )
    has(cfg.model.backbone, type='mmpretrain.BEiTViT', drop_path_rate=0.2, layer_scale_init_value=0.1)
    has(cfg.model.backbone, use_abs_pos_emb=True, use_rel_pos_bias=True, out_indices=[3, 5, 7, 11])
    has(cfg.model.roi_head.bbox_head, reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=10.0))
    # every image ends as the square that relative positions are for
    assert cfg.model.data_preprocessor.pad_size_divisor == cfg.model.backbone.img_size == 800
    assert max(max(scale) for scale in cfg.train_dataloader.dataset.pipeline[2].scales) == 800


@pytest.mark.parametrize('path', SEGMENTATION, ids=lambda path: path.stem)
def test_images_of_every_segmentor(path):
    cfg = load_config(path)
    has(cfg.data_preprocessor, **RGB, size=(512, 512), pad_val=0, seg_pad_val=255)
    resize, crop, flip, colors = cfg.train_dataloader.dataset.pipeline[2:6]
    has(resize, scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True)
    has(crop, crop_size=(512, 512), cat_max_ratio=0.75)
    has(flip, prob=0.5)
    assert colors.type == 'PhotoMetricDistortion'
    labels = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'LoadAnnotations']
    assert [step.reduce_zero_label for step in labels] == [True]
    has(cfg.train_cfg, max_iters=160000, val_interval=16000)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        has(head, num_classes=150, dropout_ratio=0.1, norm_cfg=SYNCBN, align_corners=False)
    assert cfg.model.decode_head.loss_decode.loss_weight == 1.0
    assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4
    has(cfg.model.auxiliary_head, in_index=2, channels=256, num_convs=1)


@pytest.mark.parametrize('method', ['mae', 'layer-grafted', 'tec', 'a2mim'])
def test_upernet(method):
    cfg = segmentor(f'upernet_vit-base-p16-{method}-pre')
    has(cfg.model.decode_head, type='UPerHead', in_channels=[768] * 4, channels=768, pool_scales=(1, 2, 3, 6))
    has(cfg.model.neck, type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5])
    has(cfg.model.backbone, arch='base', img_size=512, patch_size=16, out_indices=[3, 5, 7, 11], drop_path_rate=0.1)
    has(cfg.optim_wrapper.optimizer, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
    assert cfg.optim_wrapper.paramwise_cfg.layer_wise_decay_ratio == 0.65
    warm_up, poly = cfg.param_scheduler
    has(warm_up, type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False)
    has(poly, type='PolyLR', power=1.0, eta_min=0.0, begin=1500, end=160000, by_epoch=False)
    if method == 'a2mim':
        has(cfg.model.backbone, type='mmpretrain.BEiTViT', use_abs_pos_emb=True, use_rel_pos_bias=True)
        assert cfg.model.backbone.layer_scale_init_value == 0.1


def test_fcn_on_a_plain_resnet():
    cfg = segmentor('fcn_r50-d8-a2mim-pre')
    has(cfg.model.backbone, type='ResNet', depth=50, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), norm_eval=False)
    has(cfg.model.backbone, style='pytorch', contract_dilation=True, norm_cfg=SYNCBN)
    has(
        cfg.model.decode_head,
        type='FCNHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        num_convs=2,
        concat_input=True,
    )
    assert cfg.model.auxiliary_head.in_channels == 1024
    has(cfg.optim_wrapper.optimizer, type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005)
    (poly,) = cfg.param_scheduler
    has(poly, type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=160000, by_epoch=False)
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.model.test_cfg.mode == 'whole'
