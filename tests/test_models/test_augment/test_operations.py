"""Batched operations beside PIL's at fixed parameters; the bounds are those of docs/speed.md, in grey levels."""

import sys

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter
from test_datasets.test_fast.images import AFFINES, photo
from torchvision.transforms import InterpolationMode

from mmselfsup_graft.datasets.fast import cpu_ops
from mmselfsup_graft.models.augment import operations

PHOTOS = torch.stack([torch.from_numpy(photo(number)).permute(2, 0, 1) for number in range(3)])
NOISE = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (3, 3, 100, 120), dtype=np.uint8))
GREY = torch.stack([F.pil_to_tensor(Image.fromarray(photo(number)).convert('L')) for number in range(3)])
JITTERS = [0.6, 1.0, 1.37]


def apart(images, ours, pils) -> torch.Tensor:
    """Differences of our result, all images at once, from PIL's, one by one."""
    expected = torch.stack([F.pil_to_tensor(pil(F.to_pil_image(image))) for image, pil in zip(images, pils)])
    assert ours.dtype == torch.uint8
    assert ours.shape == expected.shape
    return (ours.int() - expected.int()).abs()


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
@pytest.mark.parametrize('images', [PHOTOS, NOISE, GREY], ids=['photos', 'noise', 'grey'])
def test_factors(name, images):
    pils = [lambda x, f=factor: getattr(F, f'adjust_{name}')(x, f) for factor in JITTERS]
    difference = apart(images, getattr(operations, name)(images, torch.tensor(JITTERS)), pils)
    assert difference.max() <= 1
    assert difference.float().mean() < 0.3


@pytest.mark.parametrize('images', [PHOTOS, NOISE, GREY], ids=['photos', 'noise', 'grey'])
def test_brightness_is_that_of_kornia_without_it(images, monkeypatch):
    enhance = pytest.importorskip('kornia').enhance
    factors = torch.tensor([0.0, 0.73, 1.6])
    expected = enhance.adjust_brightness_accumulative(images.float() / 255, factors)
    expected = (expected * 255 + 1e-3).clamp(0, 255).to(torch.uint8)
    monkeypatch.setitem(sys.modules, 'kornia', None)
    assert torch.equal(operations.brightness(images, factors), expected)


@pytest.mark.parametrize('factors', [(-0.1, -0.03, 0.0), (0.05, 0.1, -0.5)])
@pytest.mark.parametrize('images', [PHOTOS, NOISE], ids=['photos', 'noise'])
def test_hue(factors, images):
    pils = [lambda x, f=factor: F.adjust_hue(x, f) for factor in factors]
    difference = apart(images, operations.hue(images, torch.tensor(factors)), pils)
    assert difference.max() <= (4 if images is PHOTOS else 6)  # one of PIL's 255 hues makes 6 levels at most
    assert difference.float().mean() < 0.1


def test_flip_grayscale_and_solarize():
    nothing = torch.ones(3)
    assert torch.equal(operations.flip(PHOTOS, nothing), PHOTOS.flip(-1))
    assert apart(PHOTOS, operations.grayscale(PHOTOS, nothing), [lambda x: F.rgb_to_grayscale(x, 3)] * 3).max() <= 1
    thresholds = (128, 77, 255)
    pils = [lambda x, t=threshold: F.solarize(x, t) for threshold in thresholds]
    assert apart(NOISE, operations.solarize(NOISE, torch.tensor(thresholds).float()), pils).max() == 0


@pytest.mark.parametrize('center', [None, [10, 31.5]])
@pytest.mark.parametrize('images', [PHOTOS, NOISE, GREY], ids=['photos', 'noise', 'grey'])
def test_affine(images, center):
    images = torch.cat([images, images[:1]])  # one for each set of parameters
    fill = [7, 99, 200][: images.shape[1]]
    matrices = [F._get_inverse_affine_matrix(center or [60.0, 50.0], *each) for each in AFFINES]
    rows = torch.tensor([[*matrix, *fill] for matrix in matrices])
    for mode in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR):
        pils = [
            lambda x, p=each, m=mode: F.affine(x, *p, interpolation=m, fill=fill, center=center) for each in AFFINES
        ]
        difference = apart(images, operations.affine(images, rows, mode == InterpolationMode.BILINEAR), pils)
        if mode == InterpolationMode.BILINEAR:
            assert difference.max() <= 1
            assert difference.float().mean() < 0.02
        else:  # PIL finds the nearest pixel in fixed point, so a few positions halfway go to the other one
            assert (difference > 0).float().mean((1, 2, 3)).max() < 0.005


@pytest.mark.parametrize('images', [PHOTOS, GREY], ids=['photos', 'grey'])
def test_affine_is_that_of_the_workers(images):
    matrix = F._get_inverse_affine_matrix([60.0, 50.0], *AFFINES[1])
    for bilinear in (False, True):
        found = operations.affine(images, torch.tensor([[*matrix, *[30.0] * images.shape[1]]] * 3), bilinear)
        for image, other in zip(images, found):
            array = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
            expected = torch.from_numpy(cpu_ops.planes(cpu_ops.affine(array, matrix, bilinear, [30.0] * len(image))))
            assert (expected != other).float().mean() < 0.005
            assert not bilinear or (expected.int() - other.int()).abs().max() <= 1


@pytest.mark.parametrize('images', [PHOTOS, GREY], ids=['photos', 'grey'])
def test_noise(images):
    batch, channels, height, width = images.shape
    values = torch.randn(batch, height, width, channels, generator=torch.Generator().manual_seed(0)).mul_(40)
    expected = (images.double() + values.permute(0, 3, 1, 2).double()).round().clamp(0, 255)
    found = operations.noise(images, values.flatten(1))
    assert found.dtype == torch.uint8
    assert (found - expected).abs().max() <= 1  # a sum that float32 rounds to a half
    assert (found != expected).float().mean() < 1e-4


@pytest.mark.parametrize('sigmas', [(0.1, 0.3, 0.6), (1.0, 1.5, 2.0), (0.2, 1.4, 4.0)])
@pytest.mark.parametrize('images', [PHOTOS, NOISE, GREY], ids=['photos', 'noise', 'grey'])
def test_blur_up_to_the_edges(sigmas, images):
    pils = [lambda x, s=sigma: x.filter(ImageFilter.GaussianBlur(s)) for sigma in sigmas]
    half = operations.blur_half_width(max(sigmas))
    difference = apart(images, operations.blur(images, torch.tensor(sigmas), half), pils)
    assert difference.max() <= 4
    assert difference.float().mean() < 0.8


def test_box_kernels_are_those_of_the_workers():
    from mmselfsup_graft.datasets.fast.cpu_ops import box_kernel

    sigmas = [0.05, 0.6, 1.41, 1.42, 2.0, 3.7]
    half = operations.blur_half_width(max(sigmas))
    for row, sigma in zip(operations.box_kernels(torch.tensor(sigmas), half), sigmas):
        kernel = torch.from_numpy(box_kernel(sigma)).float()
        cut = half - len(kernel) // 2
        assert torch.allclose(row[cut : len(row) - cut], kernel, atol=1e-6)
        assert row.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('sigma', [0.1, 0.45, 1.0, 1.9, 2.0])
def test_the_box_filters_are_those_of_the_workers(sigma):
    half = operations.blur_half_width(sigma)
    (here,) = operations.box_kernels(torch.tensor([sigma]), half)
    np.testing.assert_allclose(here.numpy(), cpu_ops.box_kernel(sigma), atol=1e-6)
