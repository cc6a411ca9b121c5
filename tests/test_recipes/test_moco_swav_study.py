"""The study of MoCo v2, SwAV and MoCo v3: equal time for all rows."""

from pathlib import Path

import pytest

from mmselfsup_graft.recipes.recipe import load_recipe

ROOT = Path(__file__).parents[2]
EPOCHS = 8  # of the record
STEP = {'moco': 0.12, 'swav': 0.26, 'mocov3': 0.20, 'simmim': 0.09, 'grafted': 0.26}  # CPU seconds in the record


@pytest.fixture(scope='module')
def study():
    (path,) = (ROOT / 'configs' / 'recipes').glob('moco-swav-study_*.py')
    return load_recipe(path, epochs=EPOCHS)


def rows_of(recipe):
    return {entry['name']: recipe.stage(entry['stage']) for entry in recipe.report.rows}


def test_rows_are_the_methods_that_they_name(study):
    kinds = {name: (stage.cfg.model.type, stage.needs) for name, stage in rows_of(study).items()}
    assert kinds == {
        'MoCo v2': ('MoCo', ()),
        'SwAV': ('SwAV', ()),
        'MoCo v3': ('MoCoV3', ()),
        'SimMIM -> SwAV': ('SwAV', ('simmim',)),
    }
    grafted = study.stage('grafted').cfg
    assert grafted.model.graft == [{'checkpoint': 'stage:simmim'}]
    assert grafted.optim_wrapper.paramwise_cfg.lr_layer_wise == [0.1, 0.1, 0.1, 1.0]


def test_the_grafted_row_differs_from_swav_by_its_start_and_rates_only(study):
    plain, grafted = (study.stage(name).cfg.to_dict() for name in ('swav', 'grafted'))
    grafted['model'].pop('graft')
    grafted['optim_wrapper']['paramwise_cfg'].pop('lr_layer_wise')
    plain['optim_wrapper'].setdefault('paramwise_cfg', {})
    for key in ('model', 'optim_wrapper', 'train_dataloader'):
        assert grafted[key] == plain[key]


def test_encoders_and_evaluation_are_the_same_in_all_rows(study):
    stages = list(rows_of(study).values())
    for key in ('depth', 'in_channels', 'stem_channels', 'base_channels', 'strides'):
        assert len({str(stage.cfg.model.backbone[key]) for stage in study.stages}) == 1
    assert all(stage.cfg.evaluation == stages[0].cfg.evaluation for stage in stages)
    for stage in study.stages:
        schedule = stage.cfg.param_scheduler[0]
        assert schedule.get('end', stage.cfg.train_cfg.max_epochs) == stage.cfg.train_cfg.max_epochs


def test_all_rows_train_for_the_same_time(study):
    seconds = {stage.name: stage.cfg.train_cfg.max_epochs * STEP[stage.name] for stage in study.stages}
    rows = [sum(seconds[name] for name in (stage.name, *stage.needs)) for stage in rows_of(study).values()]
    assert rows == pytest.approx([rows[1]] * len(rows), rel=0.15)
