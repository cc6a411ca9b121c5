import numpy as np
import torch
from test_datasets.test_augment.beside_pil import GRAY, PHOTOS, batch_of

from mmselfsup_graft.datasets.augment.flip import flip_array, flip_batch, flip_planes
from mmselfsup_graft.datasets.augment.kernels import planes


def test_flips():
    for image in (PHOTOS[0], GRAY[0]):
        assert np.array_equal(flip_array(image), image[:, ::-1])
        assert np.array_equal(flip_planes(planes(image)), planes(image)[:, :, ::-1])
    images = batch_of(PHOTOS)
    assert torch.equal(flip_batch(images), images.flip(-1))
