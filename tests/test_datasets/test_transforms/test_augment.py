import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision import transforms

from mmselfsup_graft.datasets.transforms import PILGaussianBlur, PILGaussianNoise, RandomApply
from mmselfsup_graft.errors import ConfigError

IMAGE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8))


def run(transform, image=IMAGE, seed=0):
    torch.manual_seed(seed)
    return transform({'img': image})['img']


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('image', [IMAGE, IMAGE.convert('L')])
def test_random_apply_is_torchvisions(seed, image):
    jitter = {'brightness': 0.4, 'contrast': 0.4, 'saturation': 0.2, 'hue': 0.1}
    ours = run(RandomApply([{'type': 'mmpretrain.torchvision/ColorJitter', **jitter}], p=0.5), image, seed)
    torch.manual_seed(seed)
    theirs = transforms.RandomApply([transforms.ColorJitter(**jitter)], p=0.5)(image)
    assert np.array_equal(ours, theirs)


def test_blur_has_the_drawn_pil_radius():
    for seed in range(4):
        torch.manual_seed(seed)
        torch.rand(1)
        radius = 0.1 + 1.9 * torch.rand(1).item()
        blurred = run(PILGaussianBlur((0.1, 2.0), p=1.0), seed=seed)
        assert np.array_equal(blurred, IMAGE.filter(ImageFilter.GaussianBlur(radius)))


def test_noise_has_the_given_deviation():
    flat = Image.new('L', (200, 200), 128)
    noise = np.asarray(run(PILGaussianNoise(0.05), flat), dtype=float) - 128
    assert abs(noise.mean()) < 0.2
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.02)
    assert np.asarray(run(PILGaussianNoise(10.0), flat)).min() == 0  # clipped, not wrapped around
    assert np.array_equal(run(PILGaussianNoise(0.0)), IMAGE)


@pytest.mark.parametrize('kind', [PILGaussianBlur, PILGaussianNoise, lambda p: RandomApply([lambda r: {'img': 0}], p)])
def test_probability(kind):
    changed = sum(run(kind(p=0.3), seed=seed) != IMAGE for seed in range(200))
    assert 40 <= changed <= 80
    assert run(kind(p=0.0)) is IMAGE
    with pytest.raises(ConfigError, match=r'p is 1\.5'):
        kind(p=1.5)


@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_mode_and_size_are_kept(mode):
    image = IMAGE.convert(mode)
    for transform in (PILGaussianBlur(p=1), PILGaussianNoise()):
        out = run(transform, image)
        assert (out.mode, out.size) == (mode, image.size)
        assert np.array_equal(out, run(transform, image))
        assert not np.array_equal(out, image)


def test_wrong_ranges_are_refused():
    for radius in ((2.0, 0.1), (-1, 1), (1,)):
        with pytest.raises(ConfigError, match='radius'):
            PILGaussianBlur(radius)
    with pytest.raises(ConfigError, match='std'):
        PILGaussianNoise(-0.1)
