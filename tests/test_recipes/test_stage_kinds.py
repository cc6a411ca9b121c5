"""Stages that fine-tune or score the checkpoint of an earlier one: read, run, resumed, reported."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import vit_config
from test_tools.test_finetune import finetune_config
from test_tools.tiny_runs import ROOT, call_tool, evaluation, fresh_name, load, tiny_config, write_config

from mmselfsup_graft.errors import ConfigError, DataError, GraftError
from mmselfsup_graft.recipes.recipe import FINETUNE, SCORE, TRAIN, is_done, load_recipe, read_done, stage_checkpoint
from mmselfsup_graft.recipes.report import write_report
from mmselfsup_graft.recipes.stage_run import run_stage

GRAFT = {'model.graft': [dict(checkpoint='stage:mim')]}
PROBE = dict(linear=dict(epochs=2, batch_size=20, augment=False), logistic=dict(regularisation=0.1))
STAGES = [
    dict(name='mim', config='mim.py'),
    dict(name='lgp', config='lgp.py', options=GRAFT),
    dict(name='probe', config='probe.py', checkpoint='stage:lgp'),
    dict(name='tuned', config='tuned.py', checkpoint='stage:mim', share=0.5),
]


def write_files(folder: Path) -> None:
    """A recipe of every kind of stage."""
    for kind in ('mim', 'lgp'):
        write_config(folder / f'{kind}.py', tiny_config(kind, images=32))
    statistics = dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[78.0], std=[81.0], to_rgb=False)
    scored = {
        '_base_': [str(ROOT / 'configs' / '_base_' / 'default_runtime.py')],
        'model': dict(backbone=vit_config(depth=3, in_channels=1), data_preprocessor=statistics),
        'evaluation': evaluation(60, **PROBE),
    }
    write_config(folder / 'probe.py', scored)
    write_config(folder / 'tuned.py', finetune_config())
    report = dict(rows=[dict(name='LGP', stage='lgp')], reconstruct=['mim'])
    write_config(folder / 'recipe.py', dict(stages=STAGES, report=report))


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """The recipe, and the work directory of a run in this process."""
    folder = tmp_path_factory.mktemp('kinds')
    write_files(folder)
    work = folder / 'work'
    for stage in load_recipe(folder / 'recipe.py').stages:
        run_stage(stage, work)
    return folder / 'recipe.py', work


def test_kinds_and_needs(finished):
    recipe = load_recipe(finished[0])
    found = {stage.name: (stage.kind, stage.needs) for stage in recipe.stages}
    assert found == {
        'mim': (TRAIN, ()),
        'lgp': (TRAIN, ('mim',)),
        'probe': (SCORE, ('lgp',)),
        'tuned': (FINETUNE, ('mim',)),
    }
    assert [stage.name for stage in recipe.trainings] == ['mim', 'lgp', 'tuned']
    assert recipe.stage('tuned').cfg.train_cfg.max_epochs == 2
    short = load_recipe(finished[0], epochs=1)
    assert [stage.cfg.train_cfg.max_epochs for stage in short.trainings] == [1, 1, 1]
    smaller = load_recipe(finished[0], {'train_dataloader.batch_size': 4})
    assert [stage.cfg.train_dataloader.batch_size for stage in smaller.trainings] == [4, 4, 4]
    assert 'train_dataloader' not in smaller.stage('probe').cfg


def test_results_are_those_of_the_tools(finished, tmp_path):
    recipe, work = finished
    checkpoint = stage_checkpoint(work, 'lgp')
    done = call_tool('test', recipe.parent / 'probe.py', checkpoint, '--work-dir', tmp_path / 'probe')
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / 'probe' / 'test.json').read_text())['results']
    assert read_done(work, 'probe')['results'] == {row['protocol']: row['result'] for row in rows}
    assert {row['protocol'] for row in rows} == {'linear', 'logistic', 'few_shot', 'knn'}
    run = [recipe.parent / 'tuned.py', stage_checkpoint(work, 'mim'), '--work-dir', tmp_path / 'tuned', '--epochs', 2]
    done = call_tool('finetune', *run, *fresh_name())
    assert done.code == 0, done.err
    (row,) = [json.loads(line) for line in (tmp_path / 'tuned' / 'results.jsonl').read_text().splitlines()]
    assert read_done(work, 'tuned')['results'] == {'finetune': row['result']}
    both = (load(path / 'epoch_2.pth')['state_dict'] for path in (tmp_path / 'tuned', work / 'tuned'))
    first, second = both
    assert all((first[name] == second[name]).all() for name in first)


def test_nothing_is_done_twice_and_one_stage_alone_is_repeated(finished, tmp_path):
    recipe, work = load_recipe(finished[0]), shutil.copytree(finished[1], tmp_path / 'work')
    before = {path: path.stat().st_mtime_ns for path in work.rglob('*') if path.is_file()}
    for stage in recipe.stages:
        run_stage(stage, work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob('*') if path.is_file()} == before
    expected = read_done(work, 'probe')
    for name in ('probe', 'tuned'):  # killed before the note was written
        (work / name / 'done.json').unlink()
        assert not is_done(recipe.stage(name), work)
        run_stage(recipe.stage(name), work)
    again = read_done(work, 'probe')
    assert again['results'] == expected['results']
    assert read_done(work, 'tuned')['results'] == read_done(finished[1], 'tuned')['results']
    weights = [path for path in before if path.suffix == '.pth']
    assert all(path.stat().st_mtime_ns == before[path] for path in weights)


def test_other_settings_of_a_probe_or_of_what_it_scores_are_another_stage(finished):
    plain = load_recipe(finished[0])
    other = load_recipe(finished[0], {'evaluation.linear.epochs': 3})
    same = {a.name: a.fingerprint == b.fingerprint for a, b in zip(plain.stages, other.stages)}
    assert same == {'mim': True, 'lgp': True, 'probe': False, 'tuned': True}
    with pytest.raises(ConfigError, match='was made with another config'):
        is_done(other.stage('probe'), finished[1])
    trained = load_recipe(finished[0], {'model.mask_ratio': 0.5})
    assert {a.name: a.fingerprint == b.fingerprint for a, b in zip(plain.stages, trained.stages)} == dict.fromkeys(
        same, False
    )


def test_the_report_says_what_was_scored(finished, tmp_path):
    work = shutil.copytree(finished[1], tmp_path / 'work')
    report = write_report(load_recipe(finished[0]), work)
    results = {name: read_done(work, name)['results'] for name in ('probe', 'tuned')}
    assert json.loads((work / 'scores.json').read_text()) == results
    lines = report.text.splitlines()
    assert f'tuned: finetune {results["tuned"]["finetune"]["accuracy"]:.2f} %' in lines
    (probe,) = [line for line in lines if line.startswith('probe: ')]
    assert f'linear {results["probe"]["linear"]["accuracy"]:.2f} %' in probe
    assert f'{results["probe"]["few_shot"]["2"]["mean"]:.2f} % (2 labels per class)' in probe
    page = (work / 'report.html').read_text()
    assert probe.removeprefix('probe: ') in page
    assert report.table is not None
    (work / 'tuned' / 'done.json').unlink()
    with pytest.raises(GraftError, match=r'stage tuned in .* is not finished'):
        write_report(load_recipe(finished[0]), work)


def with_stage(**stage: object) -> list[dict]:
    return [*STAGES[:3], {'name': 'more', **stage}]


REFUSED = {
    'a probe without a checkpoint': (with_stage(config='probe.py'), 'its config scores a checkpoint; give it'),
    'a checkpoint for a pre-training': (with_stage(config='mim.py', checkpoint='stage:mim'), 'starts from model.graft'),
    'a probe of a probe': (with_stage(config='probe.py', checkpoint='stage:probe'), 'stage:probe, which only scores'),
    'a later stage': (with_stage(config='probe.py', checkpoint='stage:end'), 'which is not an earlier stage'),
    'a share of a probe': (with_stage(config='probe.py', checkpoint='stage:mim', share=2), 'share is for stages that'),
    'no path': (with_stage(config='probe.py', checkpoint=3), "checkpoint must be 'stage:NAME' or a file, got 3"),
    'no training': ([dict(name='p', config='probe.py', checkpoint='a.pth')], 'no stage trains'),
}


@pytest.mark.parametrize(('stages', 'says'), REFUSED.values(), ids=REFUSED)
def test_refused(stages, says, tmp_path):
    write_files(tmp_path)
    with pytest.raises(ConfigError, match=says):
        load_recipe(write_config(tmp_path / 'other.py', dict(stages=stages)))


def test_a_damaged_note_is_refused(finished, tmp_path):
    work = shutil.copytree(finished[1], tmp_path / 'work')
    for content in ({'results': 3}, {'seconds': 1.0}):
        (work / 'probe' / 'done.json').write_text(json.dumps(content))
        with pytest.raises(DataError):
            read_done(work, 'probe')
    with pytest.raises(GraftError, match='scores a checkpoint and has none of its own'):
        stage_checkpoint(finished[1], 'probe')
