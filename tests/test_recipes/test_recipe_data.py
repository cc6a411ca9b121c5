"""The data of a recipe: what may be left out, and folders with fewer images than a batch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tools.tiny_runs import call_tool, load, tiny_config, write_config

from mmselfsup_graft.engine.launching.existing import refuse_other_recipe
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.recipes.recipe import load_recipe, read_done
from mmselfsup_graft.recipes.recipe_data import fit_batch, is_held_out, train_on_unlabeled
from mmselfsup_graft.recipes.stage_run import run_stage
from mmselfsup_graft.registry import DATASETS

PIPELINE = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16, scale=(0.5, 1.0)),
    dict(type='mmpretrain.PackInputs'),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six images, and two files that are none."""
    root = tmp_path / 'images'
    root.mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 256, (20, 20), dtype=np.uint8)).save(root / f'{number}.png')
    for name in ('a.heic', 'b.HEIC'):
        (root / name).write_bytes(b'x')
    return root


@pytest.fixture
def recipe(tmp_path, folder) -> Path:
    """A recipe of one masked stage on the folder, with batches of 8."""
    content = tiny_config('mim', batch=8, epochs=2)
    content['train_dataloader']['dataset'] = dict(type='ImageFolder', data_root='elsewhere', pipeline=PIPELINE)
    del content['evaluation']
    write_config(tmp_path / 'mim.py', content)
    return write_config(tmp_path / 'recipe.py', {'stages': [dict(name='mim', config='./mim.py')]})


def test_a_small_folder_is_trained_on_in_smaller_batches(recipe, folder, tmp_path):
    with pytest.raises(DataError, match=r'2 of 8 would be left out.*--max-left-out 1 of recipes'):
        run_stage(load_recipe(recipe, data_root=str(folder)).stages[0], tmp_path / 'refused')
    stage = load_recipe(recipe, data_root=str(folder), max_left_out=0.5).stages[0]
    run_stage(stage, tmp_path / 'run')
    done = read_done(tmp_path / 'run', 'mim')
    assert done['notes'][0] == 'only 6 training images: batch lowered from 8 to 6, learning rate unchanged'
    assert 'training data: 2 ignored: .heic 2 (a.heic, b.HEIC)' in done['notes']
    assert done['iterations'] == 2
    stored = load(tmp_path / 'run' / 'mim' / done['checkpoint'])['meta']['run']
    assert (stored['samples'], stored['images per process']) == (6, 6)


def test_another_limit_is_the_same_stage_and_reaches_every_data_set(recipe, folder):
    plain, allowed = (load_recipe(recipe, data_root=str(folder), max_left_out=share) for share in (None, 0.5))
    by_option = load_recipe(recipe, {'train_dataloader.dataset.max_left_out': 1}, data_root=str(folder))
    assert plain.stages[0].fingerprint == allowed.stages[0].fingerprint == by_option.stages[0].fingerprint
    assert allowed.stages[0].cfg.train_dataloader.dataset.max_left_out == 0.5
    assert load_recipe(recipe, data_root=str(folder.parent)).stages[0].fingerprint != plain.stages[0].fingerprint
    with pytest.raises(ConfigError, match=r'--max-left-out: max_left_out is 5'):
        load_recipe(recipe, max_left_out=5)


def test_splits_below_the_folder_are_read_as_such(recipe, folder, tmp_path):
    for name, number in (('train', 0), ('val', 1)):
        for label in ('ant', 'bee'):
            place = tmp_path / 'split' / name / label
            place.mkdir(parents=True)
            (place / f'{number}.png').write_bytes((folder / f'{number}.png').read_bytes())
    cfg = load_recipe(recipe, data_root=str(tmp_path / 'split')).stages[0].cfg
    data = DATASETS.build(cfg.train_dataloader.dataset)
    assert [data.get_data_info(i)['img_path'].split('/')[-3:] for i in range(len(data))] == [
        ['train', 'ant', '0.png'],
        ['train', 'bee', '0.png'],
    ]


def test_no_image_of_an_unlabeled_folder_is_held_out(recipe, folder, tmp_path):
    cfg = load_config(tmp_path / 'mim.py')
    cfg.train_dataloader.dataset.update(data_root=str(folder), max_left_out=1, subset='train')
    cfg.evaluation = dict(test={**cfg.train_dataloader.dataset, 'subset': 'test'})
    assert not is_held_out(cfg)
    assert 'all 6 are trained on' in train_on_unlabeled(cfg)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 6
    assert train_on_unlabeled(cfg) is None
    for number, path in enumerate(sorted(folder.glob('*.png'))):  # now with labels
        (folder / f'class{number % 2}').mkdir(exist_ok=True)
        path.rename(folder / f'class{number % 2}' / path.name)
    cfg.train_dataloader.dataset.subset = 'train'
    assert is_held_out(cfg)
    assert train_on_unlabeled(cfg) is None
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 4


@pytest.mark.parametrize(
    ('size', 'drop_last', 'processes', 'fitting'),
    [(8, True, 1, 6), (8, True, 2, 3), (6, True, 1, 6), (4, True, 1, 4), (8, False, 1, 8), (8, True, 7, 8)],
)
def test_the_batch_of_few_images(size, drop_last, processes, fitting, recipe, folder, tmp_path):
    cfg = load_config(tmp_path / 'mim.py')
    cfg.train_dataloader.update(batch_size=size, drop_last=drop_last)
    cfg.train_dataloader.dataset.update(data_root=str(folder), max_left_out=1)
    assert (fit_batch(cfg, processes) is None) == (size == fitting)
    assert cfg.train_dataloader.batch_size == fitting


def test_checkpoints_of_a_recipe_stay_in_its_folders(recipe):
    with pytest.raises(ConfigError, match=r"stage 'mim': default_hooks.checkpoint.out_dir is '/elsewhere'"):
        load_recipe(recipe, {'default_hooks.checkpoint.out_dir': '/elsewhere'})


def test_the_report_of_another_recipe_is_not_replaced(recipe, tmp_path):
    work = tmp_path / 'work'
    (work / 'other').mkdir(parents=True)
    (work / 'other' / 'stage.json').write_text('{}')
    refuse_other_recipe(work, ['mim'])  # no report yet
    (work / 'table.json').write_text('{}')
    refuse_other_recipe(work, ['other', 'mim'])
    with pytest.raises(ConfigError, match=r'holds table\.json of another recipe'):
        refuse_other_recipe(work, ['mim'])
    message = call_tool('run_recipe', recipe, '--work-dir', work).error()
    assert 'of another recipe; choose another --work-dir' in message
    assert (work / 'table.json').read_text() == '{}'
