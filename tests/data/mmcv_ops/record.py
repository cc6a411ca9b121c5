"""Records what mmcv's compiled operators compute: ``python tests/data/mmcv_ops/record.py``; see README.md beside it."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ['GRAFT_MMCV_OPS'] = 'compiled'
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
sys.path.insert(0, str(HERE.parents[2]))

import mmcv
import numpy as np
import torch
import torchvision
from test_ops.calls import Tensors, run

from mmselfsup_graft.ops.finder import operators_in_use

Case = tuple[str, str, dict[str, Any], Tensors]
BOTH = (torch.float32, torch.float64)


def boxes(count: int, span: float = 40, whole: bool = False) -> torch.Tensor:
    """Boxes within ``span`` pixels, with many overlaps; at whole pixels there are equal ones."""
    corner, size = torch.rand(count, 2) * span, torch.rand(count, 2) * span / 2 + 1
    made = torch.cat([corner, corner + size], dim=1)
    return (made / 4).round() * 4 if whole else made


def suppression() -> Iterator[Case]:
    """Of boxes; the compiled operators have float32 only."""
    for offset in (0, 1):
        for threshold in (0.3, 0.6):
            scores = torch.rand(60)
            settings = {'iou_threshold': threshold, 'offset': offset}
            yield 'nms', f'offset {offset}, {threshold}', settings, {'boxes': boxes(60), 'scores': scores}
            tied = {'boxes': boxes(60, whole=True), 'scores': (scores * 4).round() / 4}
            yield 'nms', f'ties, offset {offset}, {threshold}', settings, tied
    exact = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 6], [20, 0, 30, 10], [20, 0, 30, 7], [0, 0, 0, 0]]).float()
    for threshold in (0.6, 0.7):  # of boxes that overlap by just as much
        given = {'boxes': exact, 'scores': torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])}
        yield 'nms', f'at the threshold, {threshold}', {'iou_threshold': threshold, 'offset': 0}, given
    many = {'boxes': boxes(60), 'scores': torch.rand(60)}
    yield 'nms', 'score threshold', {'iou_threshold': 0.5, 'score_threshold': 0.4}, many
    yield 'nms', 'at most 5', {'iou_threshold': 0.5, 'score_threshold': 0.2, 'max_num': 5}, many
    nothing = {'boxes': torch.zeros(0, 4), 'scores': torch.zeros(0)}
    yield 'nms', 'no boxes', {'iou_threshold': 0.5}, nothing
    yield 'nms', 'one box', {'iou_threshold': 0.5}, {'boxes': boxes(1), 'scores': torch.rand(1)}
    classes = torch.randint(0, 3, (60,))
    for name, more in {'': {}, 'agnostic': {'class_agnostic': True}, 'split': {'split_thr': 10, 'max_num': 20}}.items():
        yield 'batched_nms', f'classes {name}', {'type': 'nms', 'iou_threshold': 0.4, **more}, many | {'classes': classes}
    for method in ('naive', 'linear', 'gaussian'):
        for offset in (0, 1):
            settings = {'iou_threshold': 0.3, 'sigma': 0.5, 'min_score': 0.2, 'method': method, 'offset': offset}
            yield 'soft_nms', f'{method}, offset {offset}', settings, many
            tied = {'boxes': boxes(60, whole=True), 'scores': (torch.rand(60) * 4).round() / 4}
            yield 'soft_nms', f'{method}, ties, offset {offset}', settings, tied
    yield 'soft_nms', 'keeps all', {'iou_threshold': 0.3, 'min_score': 0.0, 'method': 'linear'}, many
    yield 'soft_nms', 'no boxes', {'iou_threshold': 0.3}, nothing
    for threshold in (0.3, 0.6):
        yield 'nms_match', f'{threshold}', {'iou_threshold': threshold}, {'dets': torch.cat([boxes(60), torch.rand(60, 1)], 1)}
        tied = torch.cat([boxes(60, whole=True), (torch.rand(60, 1) * 4).round() / 4], 1)
        yield 'nms_match', f'ties, {threshold}', {'iou_threshold': threshold}, {'dets': tied}


def overlaps() -> Iterator[Case]:
    """Of boxes in both types."""
    for dtype in BOTH:
        torch.manual_seed(3)
        for mode in ('iou', 'iof'):
            for aligned, offset in ((False, 0), (True, 0), (False, 1), (True, 1)):
                settings = {'mode': mode, 'aligned': aligned, 'offset': offset}
                given = {'first': boxes(9).to(dtype), 'second': boxes(9 if aligned else 5).to(dtype)}
                yield 'bbox_overlaps', f'{mode}, aligned {aligned}, offset {offset}', settings, given
        empty = {'first': torch.zeros(0, 4, dtype=dtype), 'second': boxes(5).to(dtype)}
        yield 'bbox_overlaps', 'no boxes', {'mode': 'iou'}, empty


def regions(images: int, height: int, width: int) -> torch.Tensor:
    """In pixels of the map: inside, partly and wholly outside, smaller than a pixel, without extent, everything."""
    inside = boxes(3, min(height, width) / 2)
    others = torch.tensor(
        [
            [-5.0, -4.0, 4.5, 3.25],
            [width - 3.5, height - 2.0, width + 6.0, height + 5.0],
            [width + 4.0, 2.0, width + 9.0, 7.0],
            [3.2, 4.1, 3.6, 4.3],
            [5.0, 5.0, 5.0, 5.0],
            [0.0, 0.0, width, height],
        ]
    )
    corners = torch.cat([inside, others])
    return torch.cat([torch.arange(len(corners))[:, None].remainder(images).float(), corners], dim=1)


def aligned_regions() -> Iterator[Case]:
    """RoIAlign with all of its options."""
    size = (2, 2, 9, 12)
    options = [
        (mode, aligned, ratio, output, scale)
        for mode in ('avg', 'max')
        for aligned in (True, False)
        for ratio, output, scale in ((0, (3, 3), 1.0), (2, (2, 4), 1.0), (0, (5, 2), 0.25), (3, (1, 1), 0.5))
    ]
    for dtype in BOTH:
        torch.manual_seed(1)  # the same numbers in both types
        for mode, aligned, ratio, output, scale in options:
            rois = regions(size[0], *size[2:])
            rois[:, 1:] /= scale
            given = {'input': torch.randn(size), 'rois': rois, 'grad': torch.randn(len(rois), size[1], *output)}
            settings = {'output_size': output, 'spatial_scale': scale, 'sampling_ratio': ratio}
            name = f'{mode}, aligned {aligned}, ratio {ratio}, {output[0]} x {output[1]}, scale {scale}'
            settings |= {'pool_mode': mode, 'aligned': aligned}
            yield 'roi_align', name, settings, {key: value.to(dtype) for key, value in given.items()}
        none = {'input': torch.randn(size), 'rois': torch.zeros(0, 5), 'grad': torch.zeros(0, size[1], 2, 2)}
        for mode in ('avg', 'max'):
            settings = {'output_size': (2, 2), 'spatial_scale': 1.0, 'sampling_ratio': 0, 'pool_mode': mode}
            none = {key: value.to(dtype) for key, value in none.items()}
            yield 'roi_align', f'{mode}, no regions', settings | {'aligned': True}, none


def convolutions() -> Iterator[Case]:
    """Deformable ones of both kinds."""
    shapes = [  # kernel, stride, padding, dilation, groups, deform_groups, images
        ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1, 2),
        ((3, 3), (2, 2), (1, 1), (1, 1), 2, 1, 2),
        ((3, 3), (1, 1), (2, 2), (2, 2), 1, 2, 2),
        ((3, 1), (1, 2), (1, 0), (2, 1), 4, 2, 4),
        ((1, 1), (1, 1), (0, 0), (1, 1), 1, 4, 1),
    ]
    for dtype in BOTH:
        torch.manual_seed(2)
        for number, (kernel, stride, padding, dilation, groups, deform_groups, images) in enumerate(shapes):
            channels, out, size = 4, 4, (5, 6)
            spans = [p * 2 + s - (d * (k - 1) + 1) for s, k, p, d in zip(size, kernel, padding, dilation)]
            result = [span // step + 1 for span, step in zip(spans, stride)]
            taps = deform_groups * kernel[0] * kernel[1]
            for far in (0.0, 0.7, 6.0) if number in (0, 2) else (0.7,):  # whole pixels, near by, far outside
                given = {
                    'input': torch.randn(images, channels, *size),
                    'offset': torch.randn(images, 2 * taps, *result) * far,
                    'weight': torch.randn(out, channels // groups, *kernel),
                    'grad': torch.randn(images, out, *result),
                }
                settings = {'stride': stride, 'padding': padding, 'dilation': dilation}
                settings |= {'groups': groups, 'deform_groups': deform_groups}
                name = f'shape {number}, offsets {far}'
                given = {key: value.to(dtype) for key, value in given.items()}
                yield 'deform_conv', name, settings | {'im2col_step': 2}, given
                more = {'mask': torch.rand(images, taps, *result).to(dtype)}
                if number % 2 == 0:
                    more |= {'bias': torch.randn(out).to(dtype)}
                yield 'modulated_deform_conv', name, settings, given | more


def main() -> None:
    """Record all cases into ``golden.npz``."""
    if operators_in_use() != 'compiled':
        sys.exit('mmcv has no compiled operators here: bash tools/install.sh --transfer --compiled-ops')
    torch.manual_seed(0)
    torch.set_num_threads(1)
    arrays: dict[str, np.ndarray] = {}
    kept: dict[bytes, str] = {}

    def keep(value: torch.Tensor) -> str:
        """Name of the array; an equal one is stored once."""
        array = value.numpy()
        key = repr((array.shape, array.dtype)).encode() + array.tobytes()
        if key not in kept:
            kept[key] = str(len(kept))
            arrays[kept[key]] = array
        return kept[key]

    described = []
    for op, name, settings, inputs in [*suppression(), *overlaps(), *aligned_regions(), *convolutions()]:
        dtype = next(iter(inputs.values())).dtype
        outputs = run(op, settings, inputs)
        case: dict[str, Any] = {'op': op, 'name': f'{op}: {name}, {str(dtype).removeprefix("torch.")}'}
        # inputs were drawn in float32, and hold no more than that
        narrow = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
        case |= {'settings': settings, 'dtype': str(dtype).removeprefix('torch.')}
        case |= {'inputs': {key: keep(value) for key, value in narrow.items()}}
        described.append(case | {'outputs': {key: keep(value) for key, value in outputs.items()}})
    versions = {'mmcv': mmcv.__version__, 'torch': torch.__version__, 'torchvision': torchvision.__version__}
    arrays['about'] = np.array(json.dumps({'versions': versions, 'cases': described}))
    np.savez_compressed(HERE / 'golden.npz', **arrays)
    print(f'{len(described)} cases, {(HERE / "golden.npz").stat().st_size / 1000:.0f} kB')


if __name__ == '__main__':
    main()
