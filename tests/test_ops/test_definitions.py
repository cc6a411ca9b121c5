"""Operators that the compiled extension has for GPUs only, against their definitions, value and gradient."""

import math
import os

import pytest
import torch
from torch import nn

from mmselfsup_graft.errors import DataError

pytestmark = pytest.mark.skipif(
    os.environ['GRAFT_MMCV_OPS'] != 'torchvision', reason='the compiled operators have none of this on a CPU'
)


def backward(output: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(1)
    upstream = torch.randn(output.shape).to(output.dtype)  # the same numbers in every type
    return list(torch.autograd.grad(output, leaves, upstream))


def close(values: list[torch.Tensor], expected: list[torch.Tensor], dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    for value, other in zip(values, expected):
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), other.double(), rtol=tolerance, atol=tolerance)


BOTH = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])


# ---------------------------------------------------------------- focal losses
@BOTH
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_sigmoid_focal_loss(dtype, weighted, gamma):
    from mmcv.ops import sigmoid_focal_loss

    classes = 4
    logits = (torch.randn(12, classes) * 3).to(dtype).requires_grad_()
    # the class after the last one stands for none; it has no weight of its own
    target = torch.randint(0, classes + (not weighted), (12,))
    weight = torch.rand(classes).to(dtype) if weighted else None
    for reduction in ('none', 'mean', 'sum'):
        loss = sigmoid_focal_loss(logits, target, gamma, 0.3, weight, reduction)
        wide = logits.detach().double().requires_grad_()
        p, hit = wide.sigmoid(), nn.functional.one_hot(target, classes + 1)[:, :classes].bool()
        right, factor = torch.where(hit, p, 1 - p), 0.7 - 0.4 * hit.double()
        expected = -factor * (1 - right) ** gamma * right.log()
        if weighted:
            expected = expected * weight.double()[target][:, None]
        expected = {'none': expected, 'mean': expected.sum() / len(wide), 'sum': expected.sum()}[reduction]
        close([loss, *backward(loss, logits)], [expected, *backward(expected, wide)], dtype)


@pytest.mark.parametrize('target', [-1, 3])
def test_class_weights_of_focal_losses_have_none_for_the_background(target):
    from mmcv.ops import sigmoid_focal_loss

    with pytest.raises(DataError, match=f'target {target} has no weight'):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.tensor([0, target]), 2.0, 0.25, torch.ones(3), 'none')


def test_sigmoid_focal_loss_of_certain_predictions_is_finite():
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 0]), 2.0, 0.25, None, 'none')
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
    assert loss[0].max() == 0


@BOTH
@pytest.mark.parametrize('weighted', [False, True])
def test_softmax_focal_loss(dtype, weighted):
    from mmcv.ops import softmax_focal_loss

    logits = torch.randn(12, 5).to(dtype).requires_grad_()
    target = torch.randint(0, 5, (12,))
    target[3] = -1  # is ignored
    weight = torch.rand(5).to(dtype) if weighted else None
    loss = softmax_focal_loss(logits, target, 2.0, 0.3, weight, 'sum')
    wide = logits.detach().double().requires_grad_()
    terms = [
        -0.3 * (1 - p[t]) ** 2 * p[t].log() * (weight.double()[t] if weighted else 1)
        for p, t in zip(wide.softmax(dim=1), target.tolist())
        if t >= 0
    ]
    expected = torch.stack(terms).sum()
    close([loss, *backward(loss, logits)], [expected, *backward(expected, wide)], dtype)


# ---------------------------------------------------------------- RoIPool
def pooled_slowly(features: torch.Tensor, rois: torch.Tensor, size: tuple[int, int], scale: float) -> torch.Tensor:
    height, width = features.shape[2:]
    regions = []
    for index, x1, y1, x2, y2 in rois.tolist():
        x, y, w, h = x1 * scale, y1 * scale, (x2 + 1 - x1) * scale, (y2 + 1 - y1) * scale
        rows = []
        for i in range(size[0]):
            top, bottom = max(math.floor(y + i * h / size[0]), 0), min(math.ceil(y + (i + 1) * h / size[0]), height)
            for j in range(size[1]):
                left, right = max(math.floor(x + j * w / size[1]), 0), min(math.ceil(x + (j + 1) * w / size[1]), width)
                empty = top >= bottom or left >= right or w <= 0 or h <= 0
                region = features[int(index), :, top:bottom, left:right]
                rows.append(features.new_zeros(features.shape[1]) if empty else region.flatten(1).max(dim=1).values)
        regions.append(torch.stack(rows, dim=1).view(-1, *size))
    return torch.stack(regions)


@BOTH
@pytest.mark.parametrize(('size', 'scale'), [((3, 3), 1.0), ((2, 5), 0.5), ((1, 1), 0.25)])
def test_roi_pool(dtype, size, scale):
    from mmcv.ops import roi_pool

    features = torch.randn(2, 3, 9, 12).to(dtype).requires_grad_()
    corners = [[1.2, 0.7, 7.5, 6.1], [-4, -3, 5, 4], [9, 6, 20, 14], [20, 20, 30, 30], [4, 4, 4, 4], [6, 6, 4, 4]]
    rois = torch.tensor([[i % 2, *box] for i, box in enumerate(corners)]).to(dtype)
    rois[:, 1:] /= scale
    output = roi_pool(features, rois, size, scale)
    wide = features.detach().double().requires_grad_()
    expected = pooled_slowly(wide, rois.double(), size, scale)
    close([output, *backward(output, features)], [expected, *backward(expected, wide)], dtype)


def test_roi_pool_of_no_regions():
    from mmcv.ops import roi_pool

    features = torch.randn(1, 2, 4, 4, requires_grad=True)
    output = roi_pool(features, torch.zeros(0, 5), (2, 2), 1.0)
    output.sum().backward()
    assert output.shape == (0, 2, 2, 2)
    assert not features.grad.any()


# ---------------------------------------------------------------- multi-scale attention
@BOTH
def test_multi_scale_attention(dtype):
    """Each output is a weighted sum of bilinear samples; pixels have their centers at half of their size."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    shapes = torch.tensor([[3, 4], [2, 2]])
    starts = torch.tensor([0, 12])
    value = torch.randn(2, 16, 2, 3).to(dtype).requires_grad_()
    places = (torch.rand(2, 5, 2, 2, 2, 2) * 1.2 - 0.1).to(dtype).requires_grad_()
    weights = torch.rand(2, 5, 2, 2, 2).to(dtype).requires_grad_()
    output = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64)

    leaves = [leaf.detach().double().requires_grad_() for leaf in (value, places, weights)]
    rows = []
    for b, q, head in ((b, q, head) for b in range(2) for q in range(5) for head in range(2)):
        total = torch.zeros(3, dtype=torch.float64)
        for level, (h, w) in enumerate(shapes.tolist()):
            grid = leaves[0][b, int(starts[level]) :][: h * w, head].view(h, w, 3)
            for point in range(2):
                x, y = leaves[1][b, q, head, level, point] * torch.tensor([w, h]) - 0.5
                for i, j in ((i, j) for i in range(h) for j in range(w)):
                    share = (1 - (x - j).abs()).clamp(min=0) * (1 - (y - i).abs()).clamp(min=0)
                    total = total + leaves[2][b, q, head, level, point] * share * grid[i, j]
        rows.append(total)
    expected = torch.stack(rows).view(2, 5, 6)
    close([output, *backward(output, value, places, weights)], [expected, *backward(expected, *leaves)], dtype)
