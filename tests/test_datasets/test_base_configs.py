"""Every dataset config builds its loader through mmengine and gives batches that its preprocessor takes."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

from mmselfsup_graft.datasets.shards.make_shards import make_shards
from mmselfsup_graft.registry import MODELS

FOLDER = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))


def write_data(root: Path) -> None:
    random = np.random.RandomState(0)
    for number in range(6):
        path = root / 'train' / f'n{number % 2}' / f'{number}.JPEG'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (70, 80, 3), dtype=np.uint8)).save(path)
    images = struct.pack('>4B3i', 0, 0, 8, 3, 6, 28, 28) + random.bytes(6 * 28 * 28)
    labels = struct.pack('>4Bi', 0, 0, 8, 1, 6) + bytes([0, 0, 1, 1, 2, 2])
    for name, content in (('images-idx3', images), ('labels-idx1', labels)):
        (root / f'train-{name}-ubyte.gz').write_bytes(gzip.compress(content))
    make_shards(root, root / 'shards', split='train')
    (root / 'train.bin').write_bytes(b''.join(bytes([0, label]) + random.bytes(3072) for label in range(6)))


def small_loader(name: str, root: Path):
    config = Config.fromfile(str(FOLDER / f'{name}.py'))
    loader = config.train_dataloader
    assert loader.persistent_workers == (loader.num_workers > 0)
    loader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
    if 'data_root' in loader.dataset:
        loader.dataset.max_left_out = 1  # the folder holds the files of all data sets
        loader.dataset.data_root = str(root / 'shards' if loader.dataset.type == 'TarShards' else root)
    with DefaultScope.overwrite_default_scope('mmselfsup_graft'):
        return config, Runner.build_dataloader(loader, seed=0)


def test_there_are_configs():
    assert len(NAMES) >= 8


def sides_of(config: Config, size: int) -> list[int]:
    """Side of every view, or of the image."""
    for step in config.train_dataloader.dataset.pipeline:
        if step.type in ('TwoViews', 'Views'):
            return [size] * len(step.get('views', 'ab'))
        if step.type == 'MultiCrop':
            assert step.crops[0].size == size
            return [group.size for group in step.crops for _ in range(group.num)]
    return [size]


@pytest.mark.parametrize('name', NAMES)
def test_config_gives_normalized_batches(name, tmp_path):
    write_data(tmp_path)
    config, loader = small_loader(name, tmp_path)
    batch = next(iter(loader))
    out = MODELS.build(config.data_preprocessor)(batch, True)
    views = out['inputs'] if isinstance(out['inputs'], list) else [out['inputs']]
    size = int(name.rsplit('_', 1)[1])
    channels = 1 if any(word in name for word in ('digits', 'mnist')) else 3
    assert [tuple(view.shape) for view in views] == [(2, channels, side, side) for side in sides_of(config, size)]
    assert all(view.dtype == torch.float32 and view.abs().max() < 4 for view in views)
    assert len(out['data_samples']) == 2
    again = next(iter(loader))['inputs']
    assert all(torch.equal(a, b) for a, b in zip(again, batch['inputs']))


@pytest.mark.parametrize(
    ('name', 'per_gpu'),
    [
        ('imagenet_mae_224', 512),
        ('digits_mae_16', 128),
        ('imagenet_a2mim_224', 256),
        ('imagenet100_a2mim_192', 256),
        ('imagenet100_simmim_192', 256),
        ('cifar100_a2mim_224', 64),
        ('photos_a2mim_64', 64),
    ],
)
def test_batch_sizes(name, per_gpu):
    loader = Config.fromfile(str(FOLDER / f'{name}.py')).train_dataloader
    assert (loader.batch_size, loader.drop_last) == (per_gpu, True)


@pytest.mark.parametrize(
    ('name', 'scale'),
    [
        ('imagenet_a2mim_224', 0.8),
        ('imagenet100_a2mim_192', 0.8),
        ('cifar100_a2mim_224', 0.8),
        ('imagenet_simmim_224', 0.67),
        ('imagenet100_simmim_192', 0.67),
    ],
)
def test_crops_of_a2mim_and_simmim(name, scale):
    dataset = Config.fromfile(str(FOLDER / f'{name}.py')).train_dataloader.dataset
    (crop,) = [each for each in dataset.pipeline if each.type.endswith('RandomResizedCrop')]
    assert tuple(crop['scale']) == (scale, 1.0)
    assert (crop['size'], crop['interpolation']) == (int(name.rsplit('_', 1)[1]), 'bilinear')
    assert dataset.data_root == f'data/{"cifar" if "cifar" in name else name.split("_")[0]}'
