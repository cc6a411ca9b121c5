"""Every operation beside PIL's at fixed parameters; the bounds are those of docs/speed.md, in grey levels."""

import numpy as np
import pytest
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter
from test_datasets.test_fast.images import AFFINES, difference, photo
from torchvision.transforms import InterpolationMode

from mmselfsup_graft.datasets.fast import cpu_ops

PHOTOS = [photo(number) for number in range(3)]
GREY = [np.array(Image.fromarray(image).convert('L')) for image in PHOTOS]
NOISE = np.random.RandomState(0).randint(0, 256, (100, 120, 3), dtype=np.uint8)
FACTORS = (0.6, 1.0, 1.37)


def worst(ours, pils, images=(*PHOTOS, NOISE)) -> tuple[int, float]:
    """Largest difference, and the largest of the images' mean differences."""
    apart = [difference(ours(image.copy()), pils(Image.fromarray(image))) for image in images]
    return max(int(each.max()) for each in apart), max(float(each.mean()) for each in apart)


@pytest.mark.parametrize('factor', FACTORS)
@pytest.mark.parametrize('images', [(*PHOTOS, NOISE), GREY], ids=['colour', 'grey'])
def test_brightness_and_contrast(images, factor):
    assert worst(lambda x: cpu_ops.brightness(x, factor), lambda x: F.adjust_brightness(x, factor), images)[0] == 0
    assert worst(lambda x: cpu_ops.contrast(x, factor), lambda x: F.adjust_contrast(x, factor), images)[0] <= 1


@pytest.mark.parametrize('factor', FACTORS)
def test_saturation(factor):
    most, mean = worst(lambda x: cpu_ops.saturation(x, factor), lambda x: F.adjust_saturation(x, factor))
    assert most <= 1
    assert mean < 0.25


@pytest.mark.parametrize('factor', [-0.5, -0.1, -0.03, 0.0, 0.05, 0.1])
def test_hue(factor):
    most, mean = worst(lambda x: cpu_ops.hue(x, factor), lambda x: F.adjust_hue(x, factor), PHOTOS)
    assert most <= 4
    assert mean < 0.1
    turned, untouched = F.adjust_hue(Image.fromarray(PHOTOS[0]), factor), F.adjust_hue(Image.fromarray(PHOTOS[0]), 0.2)
    ours = cpu_ops.hue(PHOTOS[0], factor)
    assert difference(ours, turned).mean() < 0.05 * difference(ours, untouched).mean()


def test_grayscale_and_solarize():
    assert worst(cpu_ops.grayscale, lambda x: F.rgb_to_grayscale(x, 3))[0] <= 1
    assert worst(lambda x: cpu_ops.solarize(x, 128.0), lambda x: F.solarize(x, 128), (NOISE, GREY[0]))[0] == 0
    assert worst(lambda x: cpu_ops.solarize(x, 77.0), lambda x: F.solarize(x, 77))[0] == 0


@pytest.mark.parametrize('sigma', [0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize('images', [(*PHOTOS, NOISE), GREY], ids=['colour', 'grey'])
def test_blur_up_to_the_edges(images, sigma):
    most, mean = worst(lambda x: cpu_ops.blur(x, sigma), lambda x: x.filter(ImageFilter.GaussianBlur(sigma)), images)
    assert most <= 4
    assert mean < (1.2 if NOISE is images[-1] else 0.6)


@pytest.mark.parametrize('sigma', [0.1, 0.5, 1.0, 2.0, 3.3])
def test_three_boxes_have_the_variance_of_the_gaussian(sigma):
    box = cpu_ops.box_kernel(sigma)
    places = np.arange(len(box)) - len(box) // 2
    assert box.sum() == pytest.approx(1)
    assert 3 * (box * places**2).sum() == pytest.approx(sigma**2, rel=1e-4)


@pytest.mark.parametrize('mode', [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
@pytest.mark.parametrize('window', [(0, 0, 100, 120), (3, 9, 40, 50), (10, 20, 60, 70)])
@pytest.mark.parametrize('image', [PHOTOS[0], GREY[1]], ids=['colour', 'grey'])
def test_crop(image, window, mode):
    top, left, height, width = window
    ours = cpu_ops.crop_and_resize(image, window, (48, 64), mode)
    # PIL 13 may run the vertical pass first; torch, like PIL up to 12, runs the horizontal one
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    pils = {InterpolationMode.BILINEAR: Image.Resampling.BILINEAR, InterpolationMode.BICUBIC: Image.Resampling.BICUBIC}
    apart = difference(ours, cut.resize((64, height), pils[mode]).resize((64, 48), pils[mode]))
    assert apart.max() <= 1
    assert apart.mean() < 0.05  # sides of small integer ratios hit the middle between two levels


@pytest.mark.parametrize('center', [None, [10, 31.5]])
@pytest.mark.parametrize('parameters', AFFINES)
@pytest.mark.parametrize('images', [(*PHOTOS, NOISE), GREY], ids=['colour', 'grey'])
def test_affine(images, parameters, center):
    matrix = F._get_inverse_affine_matrix(center or [60.0, 50.0], *parameters)
    fill = (7, 99, 200) if images[0].ndim == 3 else (99,)
    for mode in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR):
        bilinear = mode == InterpolationMode.BILINEAR

        def pils(x, mode=mode):
            return F.affine(x, *parameters, interpolation=mode, fill=list(fill), center=center)

        most, mean = worst(lambda x, b=bilinear: cpu_ops.affine(x, matrix, b, fill), pils, images)
        if bilinear:
            assert most <= 1
            assert mean < 0.02
        else:  # PIL finds the nearest pixel in fixed point, so a few positions halfway go to the other one
            apart = [difference(cpu_ops.affine(x, matrix, False, fill), pils(Image.fromarray(x))) for x in images]
            assert max((each > 0).mean() for each in apart) < 0.005


def test_flip_and_planes():
    for image in (PHOTOS[0], GREY[0]):
        assert np.array_equal(cpu_ops.flip(image), image[:, ::-1])
        planes = cpu_ops.planes(image)
        assert planes.flags.c_contiguous
        assert np.array_equal(planes, image.transpose(2, 0, 1) if image.ndim == 3 else image[None])
        assert np.array_equal(cpu_ops.flip_planes(planes), planes[:, :, ::-1])
