"""Each change beside PIL's at fixed factors."""

import sys

import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image
from test_datasets.test_augment.beside_pil import FACTORS, GRAY, NOISE, NOISES, PHOTOS, apart, batch_of, worst
from test_datasets.test_fast.images import difference

from mmselfsup_graft.datasets.augment import color_jitter
from mmselfsup_graft.datasets.augment.color_jitter import (
    brightness_array,
    brightness_batch,
    contrast_array,
    hue_array,
    hue_batch,
    saturation_array,
)

KINDS = pytest.mark.parametrize('images', [PHOTOS, NOISES, GRAY], ids=['photos', 'noise', 'gray'])


@pytest.mark.parametrize('factor', FACTORS)
@pytest.mark.parametrize('images', [(*PHOTOS, NOISE), GRAY], ids=['color', 'gray'])
def test_brightness_and_contrast(images, factor):
    assert worst(lambda x: brightness_array(x, factor), lambda x: F.adjust_brightness(x, factor), images)[0] == 0
    assert worst(lambda x: contrast_array(x, factor), lambda x: F.adjust_contrast(x, factor), images)[0] <= 1


@pytest.mark.parametrize('factor', FACTORS)
def test_saturation(factor):
    most, mean = worst(lambda x: saturation_array(x, factor), lambda x: F.adjust_saturation(x, factor))
    assert most <= 1
    assert mean < 0.25


@pytest.mark.parametrize('factor', [-0.5, -0.1, -0.03, 0.0, 0.05, 0.1])
def test_hue(factor):
    most, mean = worst(lambda x: hue_array(x, factor), lambda x: F.adjust_hue(x, factor), PHOTOS)
    assert most <= 4
    assert mean < 0.1
    turned, untouched = F.adjust_hue(Image.fromarray(PHOTOS[0]), factor), F.adjust_hue(Image.fromarray(PHOTOS[0]), 0.2)
    ours = hue_array(PHOTOS[0], factor)
    assert difference(ours, turned).mean() < 0.05 * difference(ours, untouched).mean()


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
@KINDS
def test_batches(name, images):
    pils = [lambda x, f=factor: getattr(F, f'adjust_{name}')(x, f) for factor in FACTORS]
    found = apart(images, getattr(color_jitter, f'{name}_batch')(batch_of(images), torch.tensor(FACTORS)), pils)
    assert found.max() <= 1
    assert found.float().mean() < 0.3


@KINDS
def test_brightness_is_that_of_kornia_without_it(images, monkeypatch):
    enhance = pytest.importorskip('kornia').enhance
    factors, batch = torch.tensor([0.0, 0.73, 1.6]), batch_of(images)
    expected = enhance.adjust_brightness_accumulative(batch.float() / 255, factors)
    expected = (expected * 255 + 1e-3).clamp(0, 255).to(torch.uint8)
    monkeypatch.setitem(sys.modules, 'kornia', None)
    assert torch.equal(brightness_batch(batch, factors), expected)


@pytest.mark.parametrize('factors', [(-0.1, -0.03, 0.0), (0.05, 0.1, -0.5)])
@pytest.mark.parametrize('images', [PHOTOS, NOISES], ids=['photos', 'noise'])
def test_hue_of_batches(factors, images):
    pils = [lambda x, f=factor: F.adjust_hue(x, f) for factor in factors]
    found = apart(images, hue_batch(batch_of(images), torch.tensor(factors)), pils)
    assert found.max() <= (4 if images is PHOTOS else 6)  # one of PIL's 255 hues makes 6 levels at most
    assert found.float().mean() < 0.1
