import numpy as np
import pytest
import torch
from PIL import Image
from test_datasets.test_augment.beside_pil import GRAY, NOISE, PHOTOS, batch_of

from mmselfsup_graft.datasets.augment import PILGaussianNoise
from mmselfsup_graft.datasets.augment.noise import noise_batch
from mmselfsup_graft.errors import ConfigError


@pytest.mark.parametrize('images', [PHOTOS, GRAY], ids=['photos', 'gray'])
def test_batches(images):
    batch = batch_of(images)
    count, channels, height, width = batch.shape
    levels = torch.randn(count, height, width, channels, generator=torch.Generator().manual_seed(0)).mul_(40)
    expected = (batch.double() + levels.permute(0, 3, 1, 2).double()).round().clamp(0, 255)
    found = noise_batch(batch, levels if channels == 3 else levels[..., 0])
    assert found.dtype == torch.uint8
    assert (found - expected).abs().max() <= 1  # a sum that float32 rounds to a half
    assert (found != expected).float().mean() < 1e-4


def test_it_has_the_given_deviation():
    flat = Image.new('L', (200, 200), 128)
    torch.manual_seed(0)
    noise = np.asarray(PILGaussianNoise(0.05)({'img': flat})['img'], dtype=float) - 128
    assert abs(noise.mean()) < 0.2
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.02)
    assert np.asarray(PILGaussianNoise(10.0)({'img': flat})['img']).min() == 0  # clipped, not wrapped around
    assert np.array_equal(PILGaussianNoise(0.0)({'img': Image.fromarray(NOISE)})['img'], NOISE)
    with pytest.raises(ConfigError, match='std'):
        PILGaussianNoise(-0.1)
