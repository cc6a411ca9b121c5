"""Pictures of reconstructions, with stand-in models whose answers are known."""

import numpy as np
import pytest
import torch
from helpers import build, mae_config, vit_config
from PIL import Image

from mmselfsup_graft.visualization import draw_photo_reconstructions, draw_reconstructions, reconstruct_photo
from mmselfsup_graft.visualization.reconstructions import masked_and_reconstructed

MEAN, STD = [120.0, 100.0, 90.0], [60.0, 50.0, 40.0]


class Stub:
    """Answers with its inputs (or a constant) and hides the left half of every image."""

    def __init__(self, answer: float | None = None) -> None:
        self.answer = answer

    def reconstruct(self, inputs):
        mask = torch.zeros_like(inputs[:, :1])
        mask[..., : inputs.shape[-1] // 2] = 1
        return inputs.clone() if self.answer is None else torch.full_like(inputs, self.answer), mask


def photo(height: int = 35, width: int = 50, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_perfect_model_gives_the_photo_back(channels):
    image = photo(channels=channels)
    original, masked, filled = reconstruct_photo(Stub(), image, 16, MEAN[:channels], STD[:channels])
    expected = image[:32, :48]
    np.testing.assert_array_equal(original, expected)
    np.testing.assert_array_equal(filled, expected)
    hidden = np.arange(48) % 16 < 8  # the left half of every window
    assert (masked[:, hidden] == 128).all()
    np.testing.assert_array_equal(masked[:, ~hidden], expected[:, ~hidden])


def test_only_hidden_pixels_come_from_the_model():
    image = photo()
    _, _, filled = reconstruct_photo(Stub(answer=0.0), image, 16, MEAN, STD)
    hidden = np.arange(48) % 16 < 8
    np.testing.assert_array_equal(filled[:, ~hidden], image[:32, :48][:, ~hidden])
    assert (filled[:, hidden] == np.array(MEAN, dtype=np.uint8)).all()  # zero is the mean colour


def test_predictions_beyond_the_range_of_pixels_are_clipped():
    images = torch.full((1, 3, 4, 4), 100.0)
    for answer, value in ((100.0, 255), (-100.0, 0)):
        _, _, (filled,) = masked_and_reconstructed(Stub(answer), images, MEAN, STD)
        assert (filled[:, :2] == value).all()


@pytest.fixture(scope='module')
def mae():
    torch.manual_seed(0)
    model = build(mae_config(vit_config(img_size=32, patch_size=4, in_channels=1), mask_ratio=0.75))
    model.init_weights()
    return model.eval()


def test_the_grey_share_is_the_mask_ratio(mae):
    images = torch.randint(0, 100, (6, 1, 32, 32)).float()  # nothing in them is grey already
    _, masked, _ = masked_and_reconstructed(mae, images, [50.0], [30.0])
    for picture in masked:
        patches = (picture == 128).reshape(8, 4, 8, 4).transpose(0, 2, 1, 3).reshape(64, 16)
        assert set(patches.mean(1)) == {0.0, 1.0}
        assert patches.all(1).sum() == 48


def test_the_mask_follows_the_seed_and_leaves_the_random_state(mae):
    images = torch.randint(0, 100, (2, 1, 32, 32)).float()
    state = torch.get_rng_state()
    first, again, other = (masked_and_reconstructed(mae, images, [50.0], [30.0], seed)[1] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


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
    photos = {'one': photo(64, 96, 1), 'two': photo(64, 96, 1)}
    draw_photo_reconstructions(mae, photos, 32, [50.0], [30.0], tmp_path / 'photos.png')
    assert_picture(tmp_path / 'photos.png')
