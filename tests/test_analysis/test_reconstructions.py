"""Pictures of reconstructions, with stand-in models whose answers are known."""

import random

import numpy as np
import pytest
import torch
from helpers import build, mae_config, moco_config, multi_task_config, tec_config, vit_config
from PIL import Image

from mmselfsup_graft.analysis.reconstruction.plot import (
    draw_photo_reconstructions,
    draw_reconstructions,
    find_reconstructor,
    pixel_statistics,
    reconstruct_images,
    reconstruct_photo,
)
from mmselfsup_graft.analysis.reconstruction.stitching import reconstruct_stitched
from mmselfsup_graft.errors import ConfigError

MEAN, STD = [120.0, 100.0, 90.0], [60.0, 50.0, 40.0]


class Stub:
    """Answers with its inputs (or a constant) and hides the left half of every image."""

    mask_patch, mask_ratio = 4, 0.5

    def __init__(self, answer: float | None = None) -> None:
        self.answer = answer

    def reconstruct(self, inputs, *, mask=None):
        if mask is None:
            mask = torch.zeros(len(inputs), inputs.shape[2] // 4, inputs.shape[3] // 4)
            mask[..., : mask.shape[-1] // 2] = 1
        pixels = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
        return inputs.clone() if self.answer is None else torch.full_like(inputs, self.answer), pixels


def photo(height: int = 35, width: int = 50, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_perfect_model_gives_the_photo_back(channels):
    image = photo(channels=channels)
    original, masked, whole, pasted = reconstruct_photo(Stub(), image, 16, MEAN[:channels], STD[:channels])
    for (picture,) in (original, whole, pasted):
        np.testing.assert_array_equal(picture, image)
    hidden = np.arange(50) % 16 < 8  # the left half of every window
    assert (masked[0][:, hidden] == 128).all()
    np.testing.assert_array_equal(masked[0][:, ~hidden], image[:, ~hidden])


def test_only_hidden_pixels_come_from_the_model():
    image = photo()
    _, _, (whole,), (pasted,) = reconstruct_photo(Stub(answer=0.0), image, 16, MEAN, STD)
    hidden = np.arange(50) % 16 < 8
    np.testing.assert_array_equal(pasted[:, ~hidden], image[:, ~hidden])
    assert (pasted[:, hidden] == np.array(MEAN, dtype=np.uint8)).all()  # zero is the mean color
    assert (whole == np.array(MEAN, dtype=np.uint8)).all()  # the visible part is not pasted back


def test_predictions_beyond_the_range_of_pixels_are_clipped():
    images = torch.full((1, 3, 8, 8), 100.0)
    for answer, value in ((100.0, 255), (-100.0, 0)):
        pictures = reconstruct_images(Stub(answer), images, MEAN, STD)
        assert (pictures.prediction[0] == value).all()
        assert (pictures.pasted[0][:, :4] == value).all()
        assert (pictures.pasted[0][:, 4:] == 100).all()


@pytest.fixture(scope='module')
def mae():
    torch.manual_seed(0)
    model = build(mae_config(vit_config(img_size=32, patch_size=4, in_channels=1), mask_ratio=0.75))
    model.init_weights()
    return model.eval()


def test_the_grey_share_is_the_mask_ratio(mae):
    images = torch.randint(0, 100, (6, 1, 32, 32)).float()  # nothing in them is gray already
    for picture in reconstruct_images(mae, images, [50.0], [30.0]).masked:
        patches = (picture == 128).reshape(8, 4, 8, 4).transpose(0, 2, 1, 3).reshape(64, 16)
        assert set(patches.mean(1)) == {0.0, 1.0}
        assert patches.all(1).sum() == 48


def test_the_mask_follows_the_seed_and_leaves_the_random_state(mae):
    images = torch.randint(0, 100, (2, 1, 32, 32)).float()
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, again, other = (reconstruct_images(mae, images, [50.0], [30.0], seed).masked for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_prediction_normalized_per_patch_is_shown_in_pixels(mae):
    """Against MAE's definition, patch by patch: prediction times deviation plus mean of the original patch."""
    images = torch.randint(0, 256, (2, 1, 32, 32)).float()
    pictures = reconstruct_images(mae, images, [50.0], [30.0], seed=3)
    inputs = (images - 50) / 30
    torch.manual_seed(3)
    with torch.no_grad():
        patches, _ = mae.forward_masked(inputs)
    for image in range(2):
        for number in range(64):
            y, x = divmod(number, 8)
            square = inputs[image, 0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].flatten()
            expected = patches[image, number] * (square.var() + 1e-6).sqrt() + square.mean()
            expected = (expected * 30 + 50).clamp(0, 255).reshape(4, 4)
            found = pictures.prediction[image][4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            np.testing.assert_allclose(found, expected, atol=0.51)


def test_what_predicts_pixels_is_found(mae):
    assert find_reconstructor(mae) == (mae, None)
    model = build(multi_task_config())
    assert find_reconstructor(model) == (model.objectives['mim'], 2)
    with pytest.raises(ConfigError, match=r'MoCoV3 predicts no pixels.*use MAE, SimMIM, A2MIM'):
        find_reconstructor(build(moco_config()))
    with pytest.raises(ConfigError, match='TEC predicts features of its base model, not pixels'):
        find_reconstructor(build(tec_config()))


def test_statistics_are_those_of_the_preprocessor(mae):
    assert pixel_statistics(mae) == ([0.0], [1.0])  # it does not normalize
    model = build(mae_config(data_preprocessor=dict(mean=MEAN, std=STD)))
    assert pixel_statistics(model) == (MEAN, STD)


def test_images_larger_than_the_model_are_stitched_and_others_are_not(mae):
    small = torch.randint(0, 256, (2, 1, 32, 32)).float()
    inputs, pictures = (small - 50) / 30, reconstruct_images(mae, small, [50.0], [30.0], seed=3)
    torch.manual_seed(3)
    expected = (mae.reconstruct(inputs)[0] * 30 + 50).clamp(0, 255).round()
    np.testing.assert_array_equal(np.stack(pictures.prediction), expected[:, 0])
    large = torch.randint(0, 256, (2, 1, 45, 70)).float()
    pictures = reconstruct_images(mae, large, [50.0], [30.0], seed=3)
    torch.manual_seed(3)
    expected = (reconstruct_stitched(mae, (large - 50) / 30, (32, 32))[0] * 30 + 50).clamp(0, 255).round()
    np.testing.assert_array_equal(np.stack(pictures.prediction), expected[:, 0])
    with pytest.raises(ConfigError, match='images of 32 x 31'):
        reconstruct_images(mae, large[..., :32, :31], [50.0], [30.0])


def assert_picture(path) -> None:
    with Image.open(path) as picture:
        assert picture.format == 'PNG'
        pixels = np.asarray(picture.convert('L'))
    assert min(pixels.shape) > 100
    assert len(np.unique(pixels)) > 20


def test_pictures_are_written(mae, tmp_path):
    images = torch.randint(0, 256, (3, 1, 32, 32))
    draw_reconstructions(mae, images, [50.0], [30.0], tmp_path / 'images.png', 'title')
    assert_picture(tmp_path / 'images.png')
    photos = {'one': photo(40, 60, 1), 'two': photo(50, 40, 1)}
    draw_photo_reconstructions(mae, photos, 32, [50.0], [30.0], tmp_path / 'photos.png')
    assert_picture(tmp_path / 'photos.png')
