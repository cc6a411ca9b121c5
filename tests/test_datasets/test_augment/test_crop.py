"""Windows and resizing beside torchvision's and PIL's."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_datasets.test_augment.beside_pil import GRAY, PHOTOS
from test_datasets.test_fast.images import difference
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from mmselfsup_graft.datasets.augment import Crop, CropRow
from mmselfsup_graft.datasets.augment.crop import INTERPOLATIONS, crop_array
from mmselfsup_graft.datasets.seeding import seed_generators


@pytest.mark.parametrize('ratio', [(0.75, 1.33), (0.9, 1.1)])
@pytest.mark.parametrize('scale', [(0.08, 1.0), (0.9, 1.0)])
def test_windows_are_those_of_torchvision(scale, ratio):
    crop = transforms.RandomResizedCrop(8, scale, ratio)
    operation = Crop(crop, 3)
    for number, (height, width) in enumerate([(40, 50), (9, 200), (200, 9), (1, 1), (2, 3)] * 20):
        seed_generators(number)
        expected = crop.get_params(torch.empty(1, height, width), scale, list(ratio))
        after = torch.rand(1)
        seed_generators(number)
        assert operation.draw(height, width) == CropRow(tuple(expected), (8, 8), 1)
        assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize('mode', [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
@pytest.mark.parametrize('window', [(0, 0, 100, 120), (3, 9, 40, 50), (10, 20, 60, 70)])
@pytest.mark.parametrize('image', [PHOTOS[0], GRAY[1]], ids=['color', 'gray'])
def test_crop(image, window, mode):
    top, left, height, width = window
    ours = crop_array(image, window, (48, 64), mode)
    # PIL 13 may run the vertical pass first; torch, like PIL up to 12, runs the horizontal one
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    pils = {InterpolationMode.BILINEAR: Image.Resampling.BILINEAR, InterpolationMode.BICUBIC: Image.Resampling.BICUBIC}
    apart = difference(ours, cut.resize((64, height), pils[mode]).resize((64, 48), pils[mode]))
    assert apart.max() <= 1
    assert apart.mean() < 0.05  # sides of small integer ratios hit the middle between two levels


def test_windows_of_a_batch_are_those_of_the_arrays():
    """Images of different sizes, with windows and interpolations of their own."""
    images = [PHOTOS[0], PHOTOS[1][:70], PHOTOS[2][:, 5:]]
    windows = torch.tensor([[0, 0, 100, 120], [3, 9, 40, 50], [10, 20, 60, 70]]).float()
    row = CropRow(windows, torch.tensor([[48, 64]] * 3).float(), torch.tensor([0.0, 1.0, 2.0]))
    found = row.cut([torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images])
    assert found.shape == (3, 3, 48, 64)
    for image, window, mode, other in zip(images, windows.int().tolist(), INTERPOLATIONS, found):
        assert np.array_equal(crop_array(image, tuple(window), (48, 64), mode).transpose(2, 0, 1), other)
