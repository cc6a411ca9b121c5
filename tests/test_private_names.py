"""Private functions of torchvision that the package calls; requirements/base.txt bounds its version because of them."""

from operator import attrgetter

import pytest
import torch
import torchvision

BREAKS = {
    'ops.torchvision._roi_align_backward': 'the gradient of RoIAlign (ops/roi_align.py)',
    'ops.torchvision._deform_conv2d_backward': 'the gradient of deformable convolutions (ops/deform_conv.py)',
    'transforms.functional._get_inverse_affine_matrix': 'affine transforms (datasets/augment/affine.py)',
}


@pytest.mark.parametrize('name', BREAKS)
def test_exists(name):
    library = torch if name.startswith('ops.') else torchvision
    try:
        assert callable(attrgetter(name)(library))
    except AttributeError:
        pytest.fail(f'torchvision {torchvision.__version__} has no {name}: {BREAKS[name]} needs another way')
