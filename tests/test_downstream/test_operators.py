"""Stock detectors and segmentors at tiny sizes on the operators of torchvision: a step, and a prediction."""

import sys
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn
from torchvision.ops import box_iou

from mmselfsup_graft.engine.execution.region_precision import keep_regions_precise
from mmselfsup_graft.registry import MODELS

DETECTORS = {
    'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'Cascade R-CNN': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'RetinaNet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'Faster R-CNN with deformable convolutions': 'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',
    'Faster R-CNN with modulated ones': 'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
}
SEGMENTORS = {
    'UPerNet': 'upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py',
    'DeepLabV3+': 'deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py',
}
SMALLER = {
    **{(key, 256): 8 for key in ('in_channels', 'out_channels', 'feat_channels', 'conv_out_channels')},
    **{('in_channels', 2048): 64, ('in_channels', 1024): 32, ('c1_in_channels', 256): 8, ('c1_channels', 48): 4},
    **{('fc_out_channels', 1024): 16, ('stacked_convs', 4): 1, ('nms_pre', 2000): 50, ('nms_pre', 1000): 50},
    **{('max_per_img', 1000): 20, ('num', 512): 16, ('num_convs', 4): 1, ('channels', 512): 8, ('channels', 256): 8},
    **{('num_classes', 80): 2, ('num_classes', 19): 2},
}


def shrunk(value: Any, key: str = '') -> Any:
    """A model's config with the sizes of :data:`SMALLER`, a ResNet of 2 channels and nothing to load."""
    if isinstance(value, dict):
        value = {k: shrunk(v, k) for k, v in value.items() if k not in ('init_cfg', 'pretrained')}
        if str(value.get('type')).startswith('ResNet'):
            value.update(base_channels=2, stem_channels=2, norm_eval=False, zero_init_residual=False)
        return {**value, 'type': 'BN'} if value.get('type') == 'SyncBN' else value
    if value == [256, 512, 1024, 2048]:
        return [8, 16, 32, 64]
    if isinstance(value, list):
        return [shrunk(each) for each in value]
    return SMALLER.get((key, value), value) if isinstance(value, int) else value


def built(library: str, config: str, score_thr: float | None = None) -> nn.Module:
    """The model of a config; ``score_thr`` is for the boxes of a detector."""
    cfg = Config.fromfile(f'{sys.modules[library].__path__[0]}/.mim/configs/{config}', import_custom_modules=False)
    if score_thr is not None:
        cfg.model.test_cfg.get('rcnn', cfg.model.test_cfg).score_thr = score_thr
    init_default_scope(library)
    model = MODELS.build(ConfigDict(shrunk(cfg.model.to_dict()), _scope_=library))
    model.init_weights()
    return model


def step(model: nn.Module, data: dict[str, Any]) -> None:
    """Backward through everything that is trained, deformable offsets included."""
    model.train()
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, grad in trained.items() if grad is None or not grad.isfinite().all()]
    offsets = [grad for name, grad in trained.items() if 'conv_offset' in name]
    assert any(grad.any() for grad in offsets) == bool(offsets)


def detection_data() -> dict[str, Any]:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 8:40, 8:40] = masks[1, 30:60, 20:60] = 1
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
    boxes = torch.tensor([[8.0, 8, 40, 40], [20, 30, 60, 60]])
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([0, 1]), masks=BitmapMasks(masks.numpy(), 64, 64)
    )
    return {'inputs': [torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)], 'data_samples': [sample]}


@pytest.mark.parametrize('name', DETECTORS)
def test_detectors(name):
    model = built('mmdet', DETECTORS[name], score_thr=0.0)
    step(model, detection_data())
    model.eval()
    with torch.no_grad():
        (result,) = model(**model.data_preprocessor(detection_data(), False), mode='predict')
    boxes, labels = result.pred_instances.bboxes, result.pred_instances.labels
    assert len(boxes) > 1
    assert boxes.isfinite().all()
    overlaps = box_iou(boxes, boxes).nan_to_num()  # 0 / 0 for boxes without an area
    rivals = (labels[:, None] == labels).triu(1)
    test_cfg = model.test_cfg.get('rcnn', model.test_cfg)
    assert rivals.any()
    assert (overlaps[rivals] <= test_cfg.nms.iou_threshold + 1e-4).all()  # NMS left these


@pytest.mark.parametrize('name', SEGMENTORS)
def test_segmentors(name):
    from mmseg.structures import SegDataSample

    model = built('mmseg', SEGMENTORS[name])
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64))) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, 64, 64)))
    images = [torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8) for _ in samples]
    step(
        model,
        {'inputs': images, 'data_samples': samples},
    )
    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor({'inputs': images, 'data_samples': samples}, False), mode='predict')
    for result in results:
        assert result.seg_logits.data.isfinite().all()
        assert torch.equal(result.pred_sem_seg.data[0], result.seg_logits.data.argmax(dim=0))


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16])
def test_regions_stay_precise_under_autocast(half):
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=2, sampling_ratio=2), 4, [4, 8])
    features = [torch.randn(1, 4, 256, 256).to(half), torch.randn(1, 4, 128, 128).to(half)]
    rois = torch.tensor([[0, 901.3, 801.7, 940.9, 850.1], [0, 500.2, 20.6, 800.1, 500.9]])
    expected = extractor(tuple(level.float() for level in features), rois)
    assert not torch.allclose(extractor(tuple(features), rois).float(), expected, atol=0.02)
    assert keep_regions_precise(nn.Sequential(extractor)) == 1
    assert torch.equal(extractor(tuple(features), rois), expected)
    assert torch.equal(extractor(feats=tuple(features), rois=rois), expected)
    assert keep_regions_precise(nn.Linear(1, 1)) == 0
