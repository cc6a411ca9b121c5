"""All or none, and what our own PIL transforms have in common."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image
from test_datasets.test_augment.beside_pil import batch_of
from torchvision import transforms

from mmselfsup_graft.datasets.augment import PILGaussianBlur, PILGaussianNoise, RandomApply, pack, unpack
from mmselfsup_graft.datasets.fast import augment_batch
from mmselfsup_graft.datasets.fast.compile_pipeline import operations_of
from mmselfsup_graft.errors import ConfigError

IMAGE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8))
JITTER = {'brightness': 0.4, 'contrast': 0.4, 'saturation': 0.2, 'hue': 0.1}


def run(transform, image=IMAGE, seed=0):
    torch.manual_seed(seed)
    return transform({'img': image})['img']


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('image', [IMAGE, IMAGE.convert('L')])
def test_it_is_torchvisions(seed, image):
    ours = run(RandomApply([{'type': 'mmpretrain.torchvision/ColorJitter', **JITTER}], p=0.5), image, seed)
    torch.manual_seed(seed)
    theirs = transforms.RandomApply([transforms.ColorJitter(**JITTER)], p=0.5)(image)
    assert np.array_equal(ours, theirs)


def test_arrays_and_batches_do_all_or_nothing():
    inner = [dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5), dict(type='PILGaussianNoise', p=0.8)]
    transform = RandomApply([*inner, RandomApply([dict(type='PILGaussianNoise')], p=0.5)], p=0.6)
    (operation,) = operations_of([transform], 3)
    image, drawn, expected = np.array(IMAGE), [], []
    for seed in range(12):
        expected.append(np.array(run(transform, seed=seed)))
        after = torch.rand(1)
        torch.manual_seed(seed)
        drawn.append(operation.draw(32, 32))
        assert torch.equal(torch.rand(1), after)
    found = [image if each is None else operation.apply(image, each) for each in drawn]
    rows = unpack(default_collate([pack(operation.rows(each, (32, 32))) for each in drawn]))
    together = augment_batch(batch_of([image] * 12), rows)
    assert 2 < drawn.count(None) < 10
    assert torch.equal(batch_of(found), batch_of(expected))
    assert torch.equal(together, batch_of(expected))


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
