"""Blur beside PIL's."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from test_datasets.test_augment.beside_pil import GRAY, NOISE, NOISES, PHOTOS, apart, batch_of, worst

from mmselfsup_graft.datasets.augment import PILGaussianBlur
from mmselfsup_graft.datasets.augment.blur import blur_array, blur_batch, box_kernel, box_kernels, half_width
from mmselfsup_graft.errors import ConfigError

IMAGE = Image.fromarray(NOISE)


@pytest.mark.parametrize('sigma', [0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize('images', [(*PHOTOS, NOISE), GRAY], ids=['color', 'gray'])
def test_arrays_up_to_the_edges(images, sigma):
    most, mean = worst(lambda x: blur_array(x, sigma), lambda x: x.filter(ImageFilter.GaussianBlur(sigma)), images)
    assert most <= 4
    assert mean < (1.2 if NOISE is images[-1] else 0.6)


@pytest.mark.parametrize('sigmas', [(0.1, 0.3, 0.6), (1.0, 1.5, 2.0), (0.2, 1.4, 4.0)])
@pytest.mark.parametrize('images', [PHOTOS, NOISES, GRAY], ids=['photos', 'noise', 'gray'])
def test_batches_up_to_the_edges(sigmas, images):
    pils = [lambda x, s=sigma: x.filter(ImageFilter.GaussianBlur(s)) for sigma in sigmas]
    found = apart(images, blur_batch(batch_of(images), torch.tensor(sigmas), half_width(max(sigmas))), pils)
    assert found.max() <= 4
    assert found.float().mean() < 0.8


@pytest.mark.parametrize('sigma', [0.1, 0.5, 1.0, 2.0, 3.3])
def test_three_boxes_have_the_variance_of_the_gaussian(sigma):
    box = box_kernel(sigma)
    places = np.arange(len(box)) - len(box) // 2
    assert box.sum() == pytest.approx(1)
    assert 3 * (box * places**2).sum() == pytest.approx(sigma**2, rel=1e-4)


def test_both_forms_have_the_same_filters():
    sigmas = [0.05, 0.1, 0.45, 0.6, 1.0, 1.41, 1.42, 1.9, 2.0, 3.7]
    half = half_width(max(sigmas))
    for row, sigma in zip(box_kernels(torch.tensor(sigmas), half).numpy(), sigmas):
        kernel = box_kernel(sigma)
        cut = half - len(kernel) // 2
        np.testing.assert_allclose(row[cut : len(row) - cut], kernel, atol=1e-6)
        assert row.sum() == pytest.approx(1, abs=1e-5)
        assert len(kernel) == 2 * half_width(sigma) + 1


def test_the_pil_radius_is_drawn():
    for seed in range(4):
        torch.manual_seed(seed)
        torch.rand(1)
        radius = 0.1 + 1.9 * torch.rand(1).item()
        torch.manual_seed(seed)
        blurred = PILGaussianBlur((0.1, 2.0), p=1.0)({'img': IMAGE})['img']
        assert np.array_equal(blurred, IMAGE.filter(ImageFilter.GaussianBlur(radius)))


def test_wrong_ranges_are_refused():
    for radius in ((2.0, 0.1), (-1, 1), (1,)):
        with pytest.raises(ConfigError, match='radius'):
            PILGaussianBlur(radius)
