"""Views of MoCo's configs, and of its linear evaluation, are the published ones; statistics of the crops."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import golden, some
from mmengine.config import Config
from torchvision import transforms

from mmselfsup_graft.datasets.augment.crop import Crop

CONFIGS = Path(__file__).parents[2] / 'configs'
Steps = list[dict[str, Any]]


def pipelines() -> dict[str, Any]:
    return {name: case for name, case in golden('augmentations', 'moco_swav')['pipelines'].items() if 'moco' in name}


def pair(value: Any) -> list[Any]:
    return [value, value] if isinstance(value, int) else list(value)


def around(one: float, width: float) -> list[float]:
    return [max(0.0, one - width) if one else -width, one + width]


def described(transform: Mapping[str, Any]) -> dict[str, Any]:
    """A transform of a config in the words of the file."""
    get = transform.get
    match transform['type'].rpartition('/')[2]:
        case 'RandomResizedCrop':
            words = {'area': list(get('scale', (0.08, 1.0))), 'ratio': list(get('ratio', (3 / 4, 4 / 3)))}
            how = get('interpolation', 'bilinear')
            return {'op': 'random_resized_crop', 'size': pair(transform['size']), **words, 'interpolation': how}
        case 'RandomApply':
            ops = [described(each) for each in transform['transforms']]
            return {'op': 'apply', 'probability': transform['p'], 'ops': ops}
        case 'ColorJitter':
            changes = {name: around(1.0, get(name, 0.0)) for name in ('brightness', 'contrast', 'saturation')}
            return {'op': 'color_jitter', **changes, 'hue': around(0.0, get('hue', 0.0)), 'order': 'random'}
        case 'RandomGrayscale':
            return {'op': 'grayscale', 'probability': transform['p']}
        case 'PILGaussianBlur':
            blur = {'op': 'gaussian_blur_pil', 'radius': list(transform['radius'])}
            return {'op': 'apply', 'probability': transform['p'], 'ops': [blur]}
        case 'RandomHorizontalFlip':
            return {'op': 'horizontal_flip', 'probability': transform['p']}
        case 'Resize':
            return {'op': 'resize_short_side', 'size': transform['size'], 'interpolation': transform['interpolation']}
        case 'CenterCrop':
            return {'op': 'center_crop', 'size': pair(transform['size'])}
    raise ValueError(transform['type'])


def whole(pipeline: Sequence[Mapping[str, Any]], preprocessor: Mapping[str, Any]) -> Steps:
    """Transforms of a pipeline with the normalization on the device; images are RGB in 0..255 before it."""
    assert not preprocessor['to_rgb']
    scaled = {key: [value / 255 for value in preprocessor[key]] for key in ('mean', 'std')}
    return [*map(described, pipeline), {'op': 'to_unit_range'}, {'op': 'normalise', **scaled}]


def assert_same(ours: Steps, published: Steps) -> None:
    assert [step['op'] for step in ours] == [step['op'] for step in published]
    for step, expected in zip(ours, published):
        assert step.keys() == expected.keys()
        for key, value in expected.items():
            if key == 'ops':
                assert_same(step[key], value)
            else:
                assert step[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12)), key


@pytest.mark.parametrize('name', [name for name in pipelines() if 'views' in pipelines()[name]])
def test_both_views(name: str) -> None:
    version = re.search(r'v\d', name)
    assert version, name
    (path,) = CONFIGS.glob(f'_base_/datasets/imagenet_moco-{version[0]}_*.py')
    cfg = Config.fromfile(path)
    load, views, _ = cfg.train_dataloader.dataset.pipeline
    assert load == dict(type='LoadImage', channels=3)
    published = pipelines()[name]['views']
    assert len(published) == 2
    for view, expected in zip((views.view1, views.view2), published):
        assert_same(whole(view, cfg.data_preprocessor), expected)


@pytest.mark.parametrize('name', [name for name in pipelines() if 'views' not in pipelines()[name]])
def test_images_of_linear_evaluation(name: str) -> None:
    (path,) = CONFIGS.glob('benchmarks/linear/linear-moco_*.py')
    cfg = Config.fromfile(path)
    for part, published in {'augmented': 'train', 'test': 'test', 'train': 'test'}.items():
        steps = cfg.evaluation[part].pipeline[1:-1]
        # features are extracted once where the published code would augment
        assert_same(whole(steps, cfg.model.data_preprocessor), pipelines()[name][published])
    assert cfg.evaluation.linear.get('augment', True)


# ---------------------------------------------------------------- crops
def fast_window(crop: transforms.RandomResizedCrop, height: int, width: int) -> tuple[int, int, int, int]:
    return tuple(Crop(crop, 3).draw(height, width).window)  # type: ignore[return-value]


def pil_window(crop: transforms.RandomResizedCrop, height: int, width: int) -> tuple[int, int, int, int]:
    return crop.get_params(torch.empty(3, height, width), crop.scale, crop.ratio)  # type: ignore[arg-type]


@pytest.mark.parametrize('draw', [fast_window, pil_window])
def test_statistics_of_crops(draw: Any) -> None:
    """Means lie within five standard errors of the recorded ones."""
    torch.manual_seed(0)
    count = 3000
    for name, case in some(golden('augmentations', 'moco_swav')['crop_statistics']).items():
        crop = transforms.RandomResizedCrop(8, case['area'], case['ratio'])
        size = case['height'], case['width']
        top, _, height, width = np.array([draw(crop, *size) for _ in range(count)], float).T
        found = {'area': height * width / (size[0] * size[1]), 'log_ratio': np.log(width / height)}
        for quantity, values in found.items():
            error = case[f'{quantity}_std'] * (1 / count + 1 / case['draws']) ** 0.5
            assert abs(values.mean() - case[f'{quantity}_mean']) < 5 * error, f'{name}: {quantity}'
            assert values.std() == pytest.approx(case[f'{quantity}_std'], rel=0.1), f'{name}: {quantity}'
        center = (top + height / 2) / size[0]
        error = center.std() * (1 / count + 1 / case['draws']) ** 0.5
        assert abs(center.mean() - case['centre_y_mean']) <= 5 * error + 1e-12, f'{name}: center'
