"""Recipes for ImageNet: what feeds what, with the settings of their configs, and encoders that the benchmarks take."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from mmselfsup_graft.evaluation.scoring import read_evaluation
from mmselfsup_graft.recipes.recipe import FINETUNE, SCORE, TRAIN, Recipe, load_recipe

RECIPES = sorted((Path(__file__).parents[2] / 'configs' / 'recipes').glob('*_in1k.py'))
GPUS = 8
# recipe -> stage -> (kind, stages that it needs, images per step of the optimizer)
CASCADE = {
    'lgp_linear': (SCORE, ('lgp',), None),
    'lgp_1percent': (SCORE, ('lgp',), None),
    'lgp_knn': (SCORE, ('lgp',), None),
    'mim_linear': (SCORE, ('mim',), None),
    'mim_1percent': (SCORE, ('mim',), None),
    'mim_knn': (SCORE, ('mim',), None),
}
EXPECTED: dict[str, dict[str, tuple[str, tuple[str, ...], int | None]]] = {
    'layer-grafted_vit-base-p16_in1k': {'mim': (TRAIN, (), 4096), 'lgp': (TRAIN, ('mim',), 4096), **CASCADE},
    'layer-grafted_vit-large-p16_in1k': {'mim': (TRAIN, (), 4096), 'lgp': (TRAIN, ('mim',), 2080), **CASCADE},
    'tec_vit-base-p16_in1k': {
        'mim': (TRAIN, (), 4096),
        'tec': (TRAIN, ('mim',), 4096),
        'tec_finetuned': (FINETUNE, ('tec',), 1024),
        'mim_finetuned': (FINETUNE, ('mim',), 1024),
    },
    'a2mim_resnet50_in1k': {
        'a2mim': (TRAIN, (), 2048),
        'rsb_a3': (FINETUNE, ('a2mim',), 2048),
        'rsb_a2': (FINETUNE, ('a2mim',), 2048),
    },
}
every_recipe = pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)


def test_every_recipe_is_expected() -> None:
    assert {path.stem for path in RECIPES} == EXPECTED.keys()


def batch(cfg: Config) -> int:
    return GPUS * cfg.train_dataloader.batch_size * cfg.optim_wrapper.get('accumulative_counts', 1)


@every_recipe
def test_stages_their_order_and_their_batches(path: Path) -> None:
    recipe = load_recipe(path)
    found = {
        stage.name: (stage.kind, stage.needs, None if stage.kind == SCORE else batch(stage.cfg))
        for stage in recipe.stages
    }
    assert list(found) == list(EXPECTED[path.stem])
    assert found == EXPECTED[path.stem]


def sizes(backbone: dict[str, Any]) -> dict[str, Any]:
    """What must agree for an encoder to take the weights of another one."""
    return {key: backbone.get(key) for key in ('arch', 'depth', 'patch_size', 'img_size')}


@every_recipe
def test_a_stage_takes_the_encoder_of_the_one_it_needs(path: Path) -> None:
    recipe = load_recipe(path)
    for stage in recipe.stages:
        for need in stage.needs:
            assert sizes(stage.cfg.model.backbone) == sizes(recipe.stage(need).cfg.model.backbone)


@every_recipe
def test_only_batch_and_start_differ_from_the_configs(path: Path) -> None:
    """The published settings reach the stages unchanged."""
    for stage in load_recipe(path).stages:
        plain, used = Config.fromfile(stage.file).to_dict(), stage.cfg.to_dict()
        for content in (plain, used):
            content.get('train_dataloader', {}).pop('batch_size', None)
            for key in ('graft', 'base_checkpoint'):
                content['model'].pop(key, None)
        assert used == plain, stage.name


def protocols(recipe: Recipe) -> dict[str, set[str]]:
    return {s.name: set(read_evaluation(s.cfg).protocols) for s in recipe.stages if s.kind == SCORE}


@pytest.mark.parametrize('size', ['base', 'large'])
def test_encoders_are_scored_by_three_protocols(size: str) -> None:
    (path,) = [path for path in RECIPES if path.stem == f'layer-grafted_vit-{size}-p16_in1k']
    recipe = load_recipe(path)
    wanted = {'linear': {'linear'}, '1percent': {'logistic'}, 'knn': {'knn'}}
    assert protocols(recipe) == {f'{who}_{what}': names for who in ('lgp', 'mim') for what, names in wanted.items()}
    assert recipe.stage('mim_linear').cfg.evaluation.linear.optimizer == 'lars'
    assert bool(recipe.stage('lgp').cfg.model.get('l1_distance')) == (size == 'large')
