"""Half precision: computed in float32 from the rounded inputs, then rounded once.

The compiled operators lack bfloat16.
"""

import os

import pytest
import torch
from test_ops.calls import run
from test_ops.test_equal_to_compiled import CASES, inputs_of

pytestmark = pytest.mark.skipif(
    os.environ['GRAFT_MMCV_OPS'] != 'torchvision', reason='the compiled operators have none of this on a CPU'
)

# without those in which mmcv itself computes with the boxes and scores before it calls the operator
CASES_IN_FLOAT32 = [
    case
    for case in CASES
    if case['dtype'] == 'float32' and case['op'] != 'batched_nms' and 'score_threshold' not in case['settings']
]


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('case', CASES_IN_FLOAT32, ids=[case['name'] for case in CASES_IN_FLOAT32])
def test_agrees_with_float32(case, half):
    rounded = {k: v.to(half) if v.is_floating_point() else v for k, v in inputs_of(case).items()}
    wide = {k: v.float() if v.is_floating_point() else v for k, v in rounded.items()}
    expected = run(case['op'], case['settings'], wide)
    with torch.autocast('cpu', dtype=half):
        outputs = run(case['op'], case['settings'], rounded)
    for name, value in outputs.items():
        if expected[name].is_floating_point():
            assert value.dtype == half
            # sums of gradients are rounded, too
            torch.testing.assert_close(value, expected[name].to(half), rtol=0.02, atol=0.02, equal_nan=True)
        else:
            assert torch.equal(value, expected[name])


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16])
def test_focal_losses_and_roi_pool(half):
    from mmcv.ops import roi_pool, sigmoid_focal_loss, softmax_focal_loss

    target = torch.randint(0, 4, (9,))
    logits = torch.randn(9, 4).to(half)
    features, rois = torch.randn(1, 2, 8, 8).to(half), torch.tensor([[0.0, 1, 1, 6, 5]]).to(half)
    for function, inputs in (
        (lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'none'), logits),
        (lambda x: softmax_focal_loss(x, target, 2.0, 0.25, None, 'sum'), logits),
        (lambda x: roi_pool(x, rois.to(x.dtype), (2, 2), 1.0), features),
    ):
        results = []
        for dtype in (half, torch.float32):
            leaf = inputs.detach().to(dtype).requires_grad_()
            output = function(leaf)
            output.sum().backward()
            assert leaf.grad.dtype == dtype
            results.append((output.float(), leaf.grad.float()))
        for value, expected in zip(*results):
            torch.testing.assert_close(value, expected, rtol=0.02, atol=0.02)
