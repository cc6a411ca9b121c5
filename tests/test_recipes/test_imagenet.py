"""Recipes for ImageNet: what feeds what, with the settings of their configs, and encoders that the benchmarks take."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from test_tools.tiny_runs import write_config
from tiny_configs import BATCH, pictures, replaced, shrunk, shrunk_frozen

from mmselfsup_graft.evaluation.scoring import read_evaluation
from mmselfsup_graft.recipes.recipe import FINETUNE, SCORE, TRAIN, Recipe, load_recipe, read_done
from mmselfsup_graft.recipes.report import write_report
from mmselfsup_graft.recipes.stage_run import run_stage

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


# ---------------------------------------------------------------- at tiny sizes
@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``data_root`` of the data sets."""
    root = tmp_path_factory.mktemp('data')
    for split in ('train', 'val'):
        pictures(root / 'imagenet' / split)
    listed = [f'train/n0000000{number % 2}/{number}.JPEG {number % 2}' for number in range(2 * BATCH)]
    (root / 'imagenet' / '1percent.txt').write_text('\n'.join(listed) + '\n')
    return {'ImageNet': str(root / 'imagenet'), 'ImageList': str(root / 'imagenet')}


def tiny_recipe(path: Path, data: dict[str, str], folder: Path) -> Path:
    """The recipe with every config at tiny sizes, stages and references as they are."""
    recipe, stages = load_recipe(path), []
    for stage in recipe.stages:
        (folder / 'sources' / stage.name).mkdir(parents=True)
        if stage.kind == SCORE:
            cfg = shrunk_frozen(Path(stage.file), data)
        else:
            cfg, _ = shrunk(Path(stage.file), data, folder / 'sources' / stage.name)
            for side in ('train', 'test') if stage.kind == TRAIN else ():  # for the pictures of the report
                dataset = replaced(cfg.evaluation[side].to_dict(), 'size', 224, cfg.model.backbone.get('img_size', 64))
                cfg.evaluation[side] = {**dataset, 'data_root': data['ImageNet']}
            if stage.kind == FINETUNE:  # the pictures are of two of the classes
                classes = [f'n{n:08}' for n in range(cfg.model.head.num_classes)]
                for side in ('train', 'val', 'test'):
                    cfg[f'{side}_dataloader'].dataset.metainfo = dict(classes=classes)
        content = {k: v for k, v in cfg.to_dict().items() if k not in ('work_dir', 'experiment_name')}
        write_config(folder / f'{stage.name}.py', content)
        given = next(entry for entry in Config.fromfile(str(path)).stages if entry.name == stage.name).to_dict()
        options = {k: v for k, v in given.pop('options', {}).items() if k.startswith('model.')}
        stages.append({**given, 'config': f'{stage.name}.py', 'options': options})
    return write_config(folder / 'recipe.py', dict(stages=stages, report=dict(recipe.report)))


@every_recipe
def test_the_recipe_runs_at_tiny_sizes(path: Path, data: dict[str, str], tmp_path: Path) -> None:
    recipe, work = load_recipe(tiny_recipe(path, data, tmp_path)), tmp_path / 'work'
    assert {stage.name: (stage.kind, stage.needs) for stage in recipe.stages} == {
        name: stage[:2] for name, stage in EXPECTED[path.stem].items()
    }
    for stage in recipe.stages:
        run_stage(stage, work)
    text = write_report(recipe, work).text
    for stage in recipe.stages:
        done = read_done(work, stage.name)
        assert done is not None
        assert ('results' in done) == (stage.kind != TRAIN)
        assert (f'{stage.name}: ' in text) == (stage.kind != TRAIN)
