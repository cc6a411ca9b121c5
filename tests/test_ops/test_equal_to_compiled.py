"""Every served operator against what mmcv's compiled one computed, see tests/data/mmcv_ops."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_ops.calls import Tensors, run

GOLDEN = np.load(Path(__file__).parents[1] / 'data' / 'mmcv_ops' / 'golden.npz')
CASES = json.loads(str(GOLDEN['about']))['cases']
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


def inputs_of(case: dict[str, Any]) -> Tensors:
    tensors = {name: torch.from_numpy(GOLDEN[place]) for name, place in case['inputs'].items()}
    wanted = getattr(torch, case['dtype'])
    return {name: value.to(wanted) if value.is_floating_point() else value for name, value in tensors.items()}


@pytest.mark.parametrize('case', CASES, ids=[case['name'] for case in CASES])
def test_golden(case):
    outputs = run(case['op'], case['settings'], inputs_of(case))
    assert outputs.keys() == case['outputs'].keys()
    for name, value in outputs.items():
        expected = torch.from_numpy(GOLDEN[case['outputs'][name]])
        tolerance = TOLERANCES.get(expected.dtype, 0)
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_all_operators_are_covered():
    assert {case['op'] for case in CASES} == {
        *('nms', 'batched_nms', 'soft_nms', 'nms_match', 'bbox_overlaps'),
        *('roi_align', 'deform_conv', 'modulated_deform_conv'),
    }
