import copy

import numpy as np
from test_datasets.test_augment.beside_pil import GRAY, PHOTOS

from mmselfsup_graft.datasets.augment.kernels import Scratch, planes


def test_planes():
    for image in (PHOTOS[0], GRAY[0]):
        found = planes(image)
        assert found.flags.c_contiguous
        assert np.array_equal(found, image.transpose(2, 0, 1) if image.ndim == 3 else image[None])


def test_scratch_is_used_again_and_not_shared_by_copies():
    scratch = Scratch()
    first = scratch.view(4, 5)
    assert np.shares_memory(first, scratch.view(2, 3))
    assert not np.shares_memory(first, scratch.view(40, 50))
    assert not np.shares_memory(scratch.view(2, 2), copy.deepcopy(scratch).view(2, 2))
