"""``--data-root``: which data sets are moved, which become folders, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tools.tiny_runs import ROOT, call_tool, tiny_config, write_config

from mmselfsup_graft.datasets.layout import split_pair
from mmselfsup_graft.engine.config.data_root import set_data_root
from mmselfsup_graft.engine.train import load_config, training_config
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS

MAE = ROOT / 'configs/mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'
FOLDER = ROOT / 'configs/mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px.py'
TUNE = ROOT / 'configs/benchmarks/finetune/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'


def fill(folder: Path, classes=('ant', 'bee'), count: int = 5) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((9, 9, 3), number, np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{number}.png')
    return folder


def counts(cfg) -> dict[str, int]:
    """Images that each data set of a config finds."""
    places = {'train': cfg.train_dataloader.dataset}
    places |= {name: cfg.evaluation[name] for name in ('train', 'test') if cfg.get('evaluation') and name != 'train'}
    if cfg.get('val_dataloader'):
        places['val'] = cfg.val_dataloader.dataset
    return {name: len(DATASETS.build(node)) for name, node in places.items()}


def test_an_imagenet_config_reads_a_plain_folder(tmp_path):
    cfg = load_config(MAE)
    notes = set_data_root(cfg, fill(tmp_path))
    assert counts(cfg) == {'train': 10, 'test': 2}
    assert cfg.evaluation.train.subset == 'train'
    assert any('not laid out as ImageNet' in note for note in notes)


def test_the_layout_of_imagenet_stays_imagenet(tmp_path):
    fill(tmp_path / 'train')
    fill(tmp_path / 'val', count=2)
    cfg = load_config(MAE)
    assert set_data_root(cfg, tmp_path) == []
    assert cfg.train_dataloader.dataset.type == 'ImageNet'
    assert counts(cfg) == {'train': 10, 'test': 4}


@pytest.mark.parametrize('config', [MAE, FOLDER], ids=['ImageNet', 'folder'])
@pytest.mark.parametrize(('held', 'expected'), [('test', 4), (None, 2)])
def test_splits_are_read_as_splits(config, held, expected, tmp_path):
    fill(tmp_path / 'train')
    if held:
        fill(tmp_path / held, count=2)
    cfg = load_config(config)
    set_data_root(cfg, tmp_path)
    assert counts(cfg) == {'train': 10, 'test': expected}


def test_a_classifier_gets_the_classes_of_the_folder(tmp_path):
    cfg = load_config(TUNE)
    notes = set_data_root(cfg, fill(tmp_path, ('ant', 'bee', 'cat')))
    assert 'the classifier has 3 classes' in notes
    assert (cfg.model.head.num_classes, cfg.data_preprocessor.num_classes) == (3, 3)
    assert tuple(cfg.val_evaluator.topk) == (1,)
    assert counts(cfg) == {'train': 12, 'val': 3}


@pytest.mark.parametrize(
    'name', ['mae_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px', 'mae_vit-micro-p4_1xb64-coslr-70e_digits-16px']
)
def test_other_kinds_of_data_are_refused_with_the_configs_that_fit(name, tmp_path):
    cfg = load_config(MAE.with_name(f'{name}.py'))
    with pytest.raises(
        ConfigError, match=r'cannot be read from a folder.*mae_vit-mini-p8_1xb128-coslr-60e_folder-64px'
    ):
        set_data_root(cfg, fill(tmp_path))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'--data-root .*gone: no such folder'):
        training_config(FOLDER, data_root=tmp_path / 'gone')


def test_the_command_trains_on_the_folder(tmp_path):
    pipeline = [
        dict(type='LoadImage', channels=1),
        dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16),
        dict(type='mmpretrain.PackInputs'),
    ]
    content = tiny_config('mim', batch=8, epochs=1)
    content['train_dataloader']['dataset'] = dict(type='ImageFolder', data_root='elsewhere', pipeline=pipeline)
    del content['evaluation']
    config = write_config(tmp_path / 'mim.py', content)
    done = call_tool('train', config, '--work-dir', tmp_path / 'run', '--data-root', fill(tmp_path / 'images'))
    assert done.code == 0, done.err
    assert f'10 images, 2 classes (ant 5, bee 5), in {tmp_path / "images"}' in done.out


@pytest.mark.parametrize(
    ('names', 'pair'),
    [
        (['train', 'val'], ('train', 'val')),
        (['test', 'train', 'val'], ('train', 'val')),
        (['Train', 'testing'], ('Train', 'testing')),
        (['train'], ('train', None)),
        (['cat', 'train'], None),
        (['val'], None),
        (['cat', 'dog'], None),
        (['fold1', 'fold2'], None),
    ],
)
def test_pairs_of_splits(names, pair):
    assert split_pair(names) == pair
