"""Contrastive pre-training of a ResNet-50 here, its conversion, and Mask R-CNN from it: the recipes, at tiny sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from test_tools.tiny_runs import call_tool, load, write_config
from tiny_configs import pictures, shrunk
from tiny_downstream import BASE, CONFIGS, shrunk_downstream

from mmselfsup_graft.checkpoints import MOCO_MODEL, SWAV_MODEL, read_checkpoint, save_atomically
from mmselfsup_graft.recipes.recipe import load_recipe, read_done
from mmselfsup_graft.recipes.stage_run import run_stage

RECIPES = sorted((CONFIGS / 'recipes').glob('mask-rcnn-from-*.py'))
#: names of the official files, and how many tensors they hold of the encoder with its projector and prototypes
OFFICIAL = {'moco': (MOCO_MODEL, 322), 'swav': (SWAV_MODEL, 328)}
TENSORS = 318  # of a ResNet-50
GPUS = 8


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``data_root`` of the pre-training."""
    root = tmp_path_factory.mktemp('images')
    pictures(root / 'train')
    return {'ImageNet': str(root)}


def small_resnet50(path: Path, images: dict[str, str], folder: Path) -> dict[str, Any]:
    """The pre-training config with the detector's small ResNet-50."""
    cfg, _ = shrunk(path, images, folder)
    content = {k: v for k, v in cfg.to_dict().items() if k not in ('work_dir', 'experiment_name')}
    content['model']['backbone'].update(depth=50, stem_channels=BASE, base_channels=BASE)
    content['model']['neck'].update(in_channels=32 * BASE)
    return content


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_pretrained_converted_and_fine_tuned(path, images, data, tmp_path):
    recipe = load_recipe(path)
    pretraining, detection = recipe.stages
    assert detection.needs == (pretraining.name,)
    batches = [GPUS * stage.cfg.train_dataloader.batch_size for stage in recipe.stages]
    assert batches == [stage.cfg.auto_scale_lr.base_batch_size for stage in recipe.stages]
    first = small_resnet50(Path(pretraining.file).resolve(), images, tmp_path)
    second = shrunk_downstream(Path(detection.file).resolve(), data, tmp_path).to_dict()
    write_config(tmp_path / f'{pretraining.name}.py', first)
    write_config(
        tmp_path / f'{detection.name}.py',
        {k: v for k, v in second.items() if k not in ('work_dir', 'experiment_name')},
    )
    stages = [{**entry.to_dict(), 'config': f'{entry.name}.py'} for entry in Config.fromfile(str(path)).stages]
    recipe, work = load_recipe(write_config(tmp_path / 'recipe.py', dict(stages=stages))), tmp_path / 'work'
    for stage in recipe.stages:
        run_stage(stage, work)

    # the detector starts from the encoder that was trained here; its stem is frozen
    ours = checkpoint_of(work, pretraining.name)
    trained = load(ours)['state_dict']
    backbone = {n.removeprefix('backbone.'): v for n, v in trained.items() if n.startswith('backbone.')}
    assert len(backbone) == TENSORS
    detector = load(checkpoint_of(work, detection.name))['state_dict']
    assert torch.equal(detector['backbone.conv1.weight'], backbone['conv1.weight'])
    assert not torch.equal(detector['backbone.layer4.2.conv3.weight'], backbone['layer4.2.conv3.weight'])

    # the converter gives the same, from our file and from one with the names of the released code
    names, kept = OFFICIAL['moco' if 'moco' in path.stem else 'swav']
    renamed = {name: names.from_canonical(name) for name in trained}
    official = {f'module.{new}': trained[name] for name, new in renamed.items() if new != name}
    save_atomically({'state_dict': official}, tmp_path / 'official.pth')
    for source, options, count in ((ours, (), TENSORS), (tmp_path / 'official.pth', ('--keep-head',), kept)):
        target = tmp_path / f'converted_{count}.pth'
        done = call_tool('model_converters/selfsup2mmdet', source, target, '--selfsup', 'auto', '--no-verify', *options)
        assert done.code == 0, done.err
        state = read_checkpoint(target)['state_dict']
        assert len(state) == count
        for name, value in backbone.items():
            assert torch.equal(state[name], value), name


def checkpoint_of(work: Path, stage: str) -> Path:
    return work / stage / read_done(work, stage)['checkpoint']
