"""The operators of mmcv, compiled and by torchvision: each alone, and a training step of a detector that calls them."""

import os
from collections.abc import Callable
from typing import Any

import torch
from harness.task import Missing, Settings, Task

from mmselfsup_graft.ops import VARIABLE
from mmselfsup_graft.ops.finder import operators_in_use

IMPLEMENTATIONS = ('compiled', 'torchvision')


class Call(Task):
    """One call, or one step of training.

    Args:
        step: The call.
    """

    def __init__(self, step: Callable[[], Any]) -> None:
        self.step = step  # type: ignore[method-assign]


def build(subject: str, implementation: str, settings: Settings) -> Task:
    """The call of one subject with the operators of one implementation.

    Raises:
        Missing: If these are not installed.
    """
    os.environ[VARIABLE] = implementation
    if operators_in_use() != implementation:
        raise Missing('mmcv has no compiled operators here: bash tools/install.sh --transfer --compiled-ops')
    torch.manual_seed(0)
    return Call(SUBJECTS[subject](settings))


def _boxes(count: int, around: int, device: str) -> torch.Tensor:
    """``count`` boxes of 16 to 300 pixels in an image of 800 x 1088, jittered around a smaller number of objects."""
    size = torch.rand(around, 2) * 284 + 16
    corner = torch.rand(around, 2) * (torch.tensor([1088.0, 800.0]) - size)
    chosen = torch.arange(count) % around
    size, corner = size[chosen] * (0.9 + 0.2 * torch.rand(count, 2)), corner[chosen] + torch.randn(count, 2) * 8
    return torch.cat([corner, corner + size], dim=1).to(device)


def _nms(settings: Settings) -> Callable[[], Any]:
    from mmcv.ops import nms

    boxes, scores = _boxes(2000, 200, settings.device), torch.rand(2000, device=settings.device)
    return lambda: nms(boxes, scores, 0.7)


def _soft_nms(settings: Settings) -> Callable[[], Any]:
    from mmcv.ops import soft_nms

    boxes, scores = _boxes(1000, 100, settings.device), torch.rand(1000, device=settings.device)
    return lambda: soft_nms(boxes, scores, 0.5, min_score=0.05, method='linear')


def _roi_align(settings: Settings) -> Callable[[], Any]:
    """The bounding-box branch: 512 regions of 7 x 7 bins on the finest map, forward and backward."""
    from mmcv.ops import RoIAlign

    features = torch.randn(1, 256, 200, 272, device=settings.device, requires_grad=True)
    rois = torch.cat([torch.zeros(512, 1, device=settings.device), _boxes(512, 64, settings.device)], dim=1)
    pool = RoIAlign(output_size=7, spatial_scale=0.25, sampling_ratio=0)
    grad = torch.randn(512, 256, 7, 7, device=settings.device)
    return lambda: pool(features, rois).backward(grad)


def _deform_conv(settings: Settings) -> Callable[[], Any]:
    """A 3 x 3 layer of the third stage of a ResNet-50, forward and backward."""
    from mmcv.ops import ModulatedDeformConv2dPack

    layer = ModulatedDeformConv2dPack(256, 256, 3, padding=1).to(settings.device)
    features = torch.randn(1, 256, 50, 68, device=settings.device, requires_grad=True)
    return lambda: layer(features).sum().backward()


def _mask_rcnn(settings: Settings) -> Callable[[], Any]:
    """Mask R-CNN with a ResNet-50 and FPN on one image of 800 x 1088 with 8 objects: losses, backward, SGD."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.structures import InstanceData

    from mmselfsup_graft.libraries.scopes import import_scope
    from mmselfsup_graft.registry import MODELS

    try:
        import_scope('mmdet')
    except ImportError as error:
        raise Missing('mmdet is not installed: bash tools/install.sh --transfer') from error
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    init_default_scope('mmdet')
    root = __import__('mmdet').__path__[0]
    cfg = Config.fromfile(f'{root}/.mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    cfg.model.backbone.init_cfg = None
    model = MODELS.build({**cfg.model, '_scope_': 'mmdet'}).to(settings.device).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    boxes = _boxes(8, 8, 'cpu').clamp(min=0)
    masks = torch.zeros(8, 800, 1088, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
        mask[y1:y2, x1:x2] = 1
    sample = DetDataSample(metainfo=dict(img_shape=(800, 1088), ori_shape=(800, 1088), scale_factor=(1.0, 1.0)))
    labels = torch.arange(8)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks.numpy(), 800, 1088))
    data = {'inputs': [torch.randint(0, 256, (3, 800, 1088), dtype=torch.uint8)], 'data_samples': [sample]}
    data = model.data_preprocessor(data, True)

    def step() -> None:
        optimizer.zero_grad()
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        optimizer.step()

    return step


SUBJECTS: dict[str, Callable[[Settings], Callable[[], Any]]] = {
    'nms': _nms,
    'soft-nms': _soft_nms,
    'roi-align': _roi_align,
    'deform-conv': _deform_conv,
    'mask-rcnn-r50-fpn': _mask_rcnn,
}
