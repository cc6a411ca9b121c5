import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms

from mmselfsup_graft.datasets import Digits
from mmselfsup_graft.datasets.transforms import TwoViews
from mmselfsup_graft.registry import MODELS

CONFIGS = Path(__file__).parents[3] / 'configs' / '_base_' / 'datasets'
IMAGE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (90, 70, 3), dtype=np.uint8))


def blur(image):
    radius = torch.empty(1).uniform_(0.1, 2.0).item()
    return image.filter(ImageFilter.GaussianBlur(radius))


def published_view(blur_p, solarize_p):
    """Write the view of MoCo v3 down in torchvision alone, step by step as in the specification."""
    steps = [
        transforms.RandomResizedCrop(224, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([blur], p=blur_p),
        *([transforms.RandomApply([lambda image: ImageOps.solarize(image, 128)], p=solarize_p)] if solarize_p else []),
        transforms.RandomHorizontalFlip(),
    ]
    return transforms.Compose(steps)


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_config_views_equal_the_published_ones(mode):
    config = Config.fromfile(str(CONFIGS / 'imagenet_mocov3_224.py'))
    ours, image = TwoViews(config.view1, config.view2), IMAGE.convert(mode)
    for seed in range(12):
        torch.manual_seed(seed)
        views = ours({'img': image})['img']
        torch.manual_seed(seed)
        expected = [published_view(1.0, 0)(image), published_view(0.1, 0.2)(image)]
        assert [view.mode for view in views] == [mode] * 2
        assert all(np.array_equal(a, b) for a, b in zip(views, expected))


def test_views_share_the_image_and_change_neither_it_nor_other_keys():
    seen = []

    def remember(results):
        seen.append(results['img'])
        results['extra'] = 1
        return results

    results = TwoViews([remember])({'img': IMAGE, 'gt_label': 3})
    assert seen == [IMAGE, IMAGE]
    assert seen[0] is seen[1]
    assert results == {'img': [IMAGE, IMAGE], 'gt_label': 3}


def test_only_torch_draws():
    config = Config.fromfile(str(CONFIGS / 'imagenet_mocov3_224.py'))
    before = random.getstate(), np.random.get_state()[1].tolist()
    TwoViews(config.view1, config.view2)({'img': IMAGE})
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize(('channels', 'mean', 'std'), [(1, [70.0], [80.0]), (3, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0])])
def test_batch_fits_the_preprocessor(channels, mean, std):
    flip = [{'type': 'mmpretrain.torchvision/RandomHorizontalFlip', 'p': 1.0}]
    pipeline = [
        {'type': 'LoadImage', 'channels': channels},
        {'type': 'TwoViews', 'view1': [], 'view2': flip},
        {'type': 'mmpretrain.PackInputs'},
    ]
    dataset = Digits('test', pipeline=pipeline)
    batch = default_collate([dataset[i] for i in range(3)])
    assert [tuple(view.shape) for view in batch['inputs']] == [(3, channels, 16, 16)] * 2
    assert batch['inputs'][0].dtype == torch.uint8
    preprocess = MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor', 'mean': mean, 'std': std, 'to_rgb': False})
    out = preprocess(batch, True)
    image = torch.tensor(dataset.get_data_info(2)['img']).float()
    for channel in range(channels):
        expected = (image - mean[channel]) / std[channel]
        torch.testing.assert_close(out['inputs'][0][2, channel], expected)
        torch.testing.assert_close(out['inputs'][1][2, channel], expected.flip(-1))
    assert [int(sample.gt_label) for sample in out['data_samples']] == dataset.labels()[:3].tolist()
    assert [sample.sample_idx for sample in out['data_samples']] == [0, 1, 2]


def test_preprocessor_keeps_rgb_order():
    config = Config.fromfile(str(CONFIGS / 'imagenet_mae_224.py'))
    preprocess = MODELS.build(config.data_preprocessor)
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    out = preprocess({'inputs': red, 'data_samples': [None]})['inputs'].flatten()
    expected = (torch.tensor([1.0, 0, 0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(out, expected)
