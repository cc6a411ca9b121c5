"""Running recipes: side by side, killed and gone on with, refused, failed, reported."""

import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import FORKING
from PIL import Image
from test_tools.tiny_runs import (
    ROOT,
    Outcome,
    assert_same_run,
    call_tool,
    load,
    merged,
    run_tool_process,
    start_tool,
    tiny_config,
    write_config,
)

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.errors import GraftError
from mmselfsup_graft.recipes import jobs as recipe_jobs
from mmselfsup_graft.recipes.jobs import ProgressView, run_jobs
from mmselfsup_graft.recipes.recipe import load_recipe, read_done
from mmselfsup_graft.recipes.report import write_report
from mmselfsup_graft.recipes.stage_run import run_stage

CPU = 'cpu_seconds'
PICTURES = {'loss_curves.png', 'lr_over_depth.png', 'reconstructions_mim.png'}
# a stage imports it; with the environment variable SLOW every iteration takes so many seconds longer
SLOW = """
import os, time
from mmengine.hooks import Hook
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class Slow(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(float(os.environ.get('SLOW', 0)))
"""


def write_recipe(folder: Path, **options) -> Path:
    """The cascade at 8 iterations per stage, a checkpoint every 3."""
    (folder / 'slow.py').write_text(SLOW)
    often = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=3)))
    slow = dict(custom_imports=dict(imports=['slow']), custom_hooks=[dict(type='Slow')])
    for kind in ('mim', 'cl', 'lgp'):
        write_config(folder / f'{kind}.py', merged(tiny_config(kind, images=32, **often, **slow), options))
    graft = {'model.graft': [dict(checkpoint='stage:mim')]}
    content = dict(
        stages=[
            dict(name='mim', config='mim.py'),
            dict(name='cl', config='cl.py'),
            dict(name='lgp', config='lgp.py', options=graft),
        ],
        report=dict(
            rows=[dict(name=name.upper(), stage=name) for name in ('mim', 'cl', 'lgp')],
            features=['class_token', 'patch_mean'],
            reconstruct=['mim'],
        ),
    )
    return write_config(folder / 'recipe.py', content)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('recipe')
    write_recipe(folder)
    return folder


@pytest.fixture(autouse=True)
def slow_is_found(folder, monkeypatch) -> None:
    """The configs import ``slow``, here and in child processes."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv('PYTHONPATH', environment(folder)['PYTHONPATH'])


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {'PYTHONPATH': f'{ROOT}{os.pathsep}{folder}', **more}


@pytest.fixture(scope='module')
def finished(folder) -> tuple[Path, Outcome]:
    """Work directory of an uninterrupted run, two stages at a time, and what it printed."""
    work = folder / 'finished'
    arguments = [folder / 'recipe.py', '--work-dir', work, '--jobs', 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_jobs, 'subprocess', FORKING)
        patch.setenv('PYTHONPATH', environment(folder)['PYTHONPATH'])
        patch.syspath_prepend(folder)
        done = call_tool('run_recipe', *arguments)
    assert done.code == 0, done.err[-3000:]
    return work, done


def weights(work: Path, name: str) -> Path:
    return work / name / read_done(work, name)['checkpoint']


def times(work: Path) -> dict[str, int]:
    """Modification time of every checkpoint and note of a work directory."""
    return {str(path): path.stat().st_mtime_ns for path in work.glob('*/*') if path.suffix in ('.pth', '.json')}


# ---------------------------------------------------------------- a whole run
def test_every_stage_is_done_and_fed_by_the_one_before(finished):
    work, _ = finished
    for name in ('mim', 'cl', 'lgp'):
        done = read_done(work, name)
        assert done['checkpoint'] == 'iter_8.pth'
        assert done['iterations'] == 8
        assert done['seconds'] > 0
    assert 'graft report' in (work / 'lgp' / 'train.log').read_text()
    assert str(work / 'mim' / 'iter_8.pth') in (work / 'lgp' / 'train.log').read_text()
    mim, lgp = (load(weights(work, name))['state_dict'] for name in ('mim', 'lgp'))
    stem = 'backbone.patch_embed.projection.weight'  # frozen in the second stage
    assert (mim[stem] == lgp[stem]).all()


def test_the_run_shows_progress_and_ends_with_the_table(finished):
    work, done = finished
    assert '0/3 stages done' in done.out
    assert 's left, loss ' in done.out or 'starting' in done.out
    table = (work / 'table.txt').read_text()
    assert table in done.out
    names = ['random encoder', 'MIM', 'CL', 'LGP']
    rows = ['raw pixels', *(f'{name}{more}' for name in names for more in ('', ', mean of patches'))]
    result = json.loads((work / 'table.json').read_text())
    assert list(result['rows']) == rows
    width = table.splitlines()[1].index('1 label') - 6
    assert [line[:width].strip() for line in table.splitlines()[2:-1]] == rows
    for name in names:
        own, mean = (result['rows'][f'{name}{more}'] for more in ('', ', mean of patches'))
        assert (own['encoder'], own['feature'], mean['encoder'], mean['feature']) == (
            *(name, 'class_token'),
            *(name, 'patch_mean'),
        )
        assert own['knn'] != mean['knn'] or own['few_shot'] != mean['few_shot']
    assert result['rows']['LGP']['stages'] == ['mim', 'lgp']
    assert [result['rows'][name]['iterations'] for name in names[1:]] == [8, 8, 16]
    cost = [read_done(work, name) for name in ('mim', 'lgp')]
    assert result['rows']['LGP, mean of patches']['train_seconds'] == sum(each['seconds'] for each in cost)
    assert result['rows']['LGP']['train_cpu_seconds'] == sum(each['cpu_seconds'] for each in cost) > 0
    assert result['protocol']['few_shot']['draws'] == 2
    for row in result['rows'].values():
        assert set(row['few_shot']) == {'1', '2'}
        assert 0 < row['few_shot']['2']['mean'] < 100
    assert f'{result["rows"]["raw pixels"]["knn"]["accuracy"]:.1f}' in table


def test_the_run_leaves_its_pictures(finished):
    work, _ = finished
    assert {path.name for path in work.glob('*.png')} == PICTURES
    assert all((work / name).stat().st_size > 5000 for name in PICTURES)


def test_the_page_has_the_numbers_of_the_table(finished):
    work, done = finished
    assert f'open {work / "report.html"}' in done.out
    page = (work / 'report.html').read_text()
    shown = re.findall(r'<span class="value">([\d.]+)', page)
    expected = []
    for row in json.loads((work / 'table.json').read_text())['rows'].values():
        expected += [f'{row["few_shot"][n]["mean"]:.1f}' for n in ('1', '2')] + [f'{row["knn"]["accuracy"]:.1f}']
        expected += [str(round(row['train_seconds']))] if 'train_seconds' in row else []
    assert shown == expected
    for name in ('MIM', 'CL', 'LGP'):
        assert f'<strong>{name}</strong><span class="quiet small">last loss' in page
    for alt in ('original', 'masked', 'reconstruction'):
        assert f'alt="Image 1: {alt}"' in page
    checkpoint = read_done(work, 'lgp')['checkpoint']
    assert f'{work}/lgp/{checkpoint} lgp_timm.pth --to timm' in page


def test_the_same_command_again_runs_no_stage(folder, finished):
    work, _ = finished
    before = times(work)
    table = (work / 'table.json').read_text()
    done = call_tool('run_recipe', folder / 'recipe.py', '--work-dir', work)
    assert done.code == 0, done.err
    assert times(work) == before
    assert (work / 'table.json').read_text() == table


def test_another_config_in_the_same_folder_is_refused(folder, finished):
    work, _ = finished
    before = times(work)
    arguments = [folder / 'recipe.py', '--work-dir', work, '--cfg-options', 'optim_wrapper.optimizer.lr=0.01']
    assert 'was made with another config' in call_tool('run_recipe', *arguments).error()
    assert times(work) == before


def test_a_stage_that_lacks_only_its_note_is_not_trained_again(folder, finished, tmp_path):
    """Killed between the last checkpoint and ``done.json``."""
    work = shutil.copytree(finished[0], tmp_path / 'work')
    note = work / 'cl' / 'done.json'
    expected = json.loads(note.read_text())
    note.unlink()
    before = times(work)
    run_stage(load_recipe(folder / 'recipe.py').stage('cl'), work)
    assert json.loads(note.read_text()) == expected
    progress = work / 'cl' / 'progress.json'  # as after resuming a run that an older version began
    progress.write_text(
        json.dumps({key: value for key, value in json.loads(progress.read_text()).items() if key != CPU})
    )
    note.unlink()
    run_stage(load_recipe(folder / 'recipe.py').stage('cl'), work)
    assert json.loads(note.read_text()) == {key: value for key, value in expected.items() if key != CPU}
    checkpoints = {path for path in before if path.endswith('.pth')}
    assert {path: times(work)[path] for path in checkpoints} == {path: before[path] for path in checkpoints}


# ---------------------------------------------------------------- killed
def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def wait_for(condition, seconds: float = 300.0) -> None:
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'waited too long'
        time.sleep(0.05)


def reached(work: Path, name: str, iteration: int) -> bool:
    path = work / name / 'progress.json'
    return path.is_file() and json.loads(path.read_text())['iter'] >= iteration


@pytest.mark.slow
def test_killed_in_the_middle_and_gone_on_with(folder, finished, tmp_path):
    work = tmp_path / 'work'
    # the same command both times: another number of jobs gives each another number of threads, and sums other last bits
    arguments = [folder / 'recipe.py', '--work-dir', work, '--jobs', 2]
    process = start_tool('run_recipe', *arguments, **environment(folder, SLOW='1'))
    try:
        wait_for(lambda: all((work / name / 'iter_3.pth').is_file() for name in ('mim', 'cl')))
        children = children_of(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(children) == 2
    wait_for(lambda: not any(map(alive, children)), seconds=10)
    for name in ('mim', 'cl'):
        assert read_done(work, name) is None
        assert not reached(work, name, 8)
    assert not (work / 'lgp').exists()

    done = run_tool_process('run_recipe', *arguments, **environment(folder))
    assert done.code == 0, done.err[-3000:]
    for name in ('mim', 'cl', 'lgp'):
        assert_same_run(weights(work, name), weights(finished[0], name))
        histories = [(each / name / 'history.jsonl').read_text() for each in (work, finished[0])]
        assert histories[0] == histories[1]
    tables = [json.loads((each / 'table.json').read_text())['rows'] for each in (work, finished[0])]
    for row in tables[0]:
        assert tables[0][row]['few_shot'] == tables[1][row]['few_shot']
        assert tables[0][row]['knn'] == tables[1][row]['knn']


@pytest.mark.slow
def test_asked_to_stop_every_stage_writes_its_checkpoint(folder, finished, tmp_path):
    work = tmp_path / 'work'
    arguments = [folder / 'recipe.py', '--work-dir', work, '--jobs', 2]
    process = start_tool('run_recipe', *arguments, **environment(folder, SLOW='1'))
    wait_for(lambda: all(reached(work, name, 1) for name in ('mim', 'cl')))
    children = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert 'stopped by SIGTERM; run the same command again to continue' in err
    assert not any(map(alive, children))
    assert all(list((work / name).glob('iter_*.pth')) for name in ('mim', 'cl'))
    done = run_tool_process('run_recipe', *arguments, **environment(folder))
    assert done.code == 0, done.err[-3000:]
    for name in ('mim', 'cl', 'lgp'):
        assert_same_run(weights(work, name), weights(finished[0], name))


def test_a_stage_that_is_killed_is_said_to_be(folder, tmp_path):
    class Killed:
        returncode = -signal.SIGKILL

    log = tmp_path / 'train.log'
    log.write_text('11/28 loss: 1.0\n')
    job = recipe_jobs._Job(load_recipe(folder / 'recipe.py').stage('mim'), Killed(), log, 0)
    assert recipe_jobs._failure(job) == f'stage mim failed: killed by SIGKILL (out of memory?) (log: {log})'


@pytest.mark.slow
def test_a_child_that_outlives_its_parent_from_the_start_ends(folder, tmp_path):
    """The parent may be gone before the child has imported anything."""
    module = [sys.executable, '-m', 'mmselfsup_graft.cli.recipe_stage', str(folder / 'recipe.py')]
    command = [*module, '--work-dir', str(tmp_path / 'work'), '--only', 'mim']
    gone = subprocess.Popen(['true'])
    gone.wait()
    variables = {**os.environ, **environment(folder, SLOW='100'), 'GRAFT_PARENT': str(gone.pid)}
    orphan = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert orphan.wait(timeout=300) == 1
    finally:
        orphan.kill()
        orphan.wait()


def test_a_second_process_is_kept_out(folder, tmp_path):
    stage = load_recipe(folder / 'recipe.py').stage('mim')
    (tmp_path / 'mim').mkdir()
    with (tmp_path / 'mim' / '.lock').open('w') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(GraftError, match='mim is in use by another running process'):
            run_stage(stage, tmp_path)
    assert sorted(path.name for path in (tmp_path / 'mim').iterdir()) == ['.lock']


# ---------------------------------------------------------------- failed, unlabeled
def test_a_failing_stage_is_named_with_its_reason_and_its_log(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_jobs, 'subprocess', FORKING)
    arguments = [folder / 'recipe.py', '--work-dir', tmp_path, '--cfg-options', 'model.mask_ratio=1.5']
    stale = tmp_path / 'mim' / 'train.log'
    stale.parent.mkdir()
    stale.write_text('error: of an earlier run\n')
    message = call_tool('run_recipe', *arguments).error()
    assert message.startswith('stage mim failed: MAE: mask_ratio=1.5 leaves ')
    assert message.endswith(f'(log: {stale})')
    assert not (tmp_path / 'cl').exists()
    assert not list(tmp_path.glob('*/*.pth'))


@pytest.fixture
def unlabeled(folder, tmp_path):
    """A finished recipe on a folder of images without classes."""
    root = tmp_path / 'images'
    root.mkdir()
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'{number}.png')
    pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    side = dict(type='ImageFolder', data_root=str(root), pipeline=pipeline)
    (tmp_path / 'recipe').mkdir()
    path = write_recipe(tmp_path / 'recipe', evaluation=dict(train=side, test=side))
    recipe = load_recipe(path)
    for stage in recipe.stages:
        run_stage(stage, tmp_path / 'work')
    return recipe, tmp_path / 'work'


def test_without_labels_there_is_no_table_but_the_pictures(unlabeled):
    recipe, work = unlabeled
    text = write_report(recipe, work).text
    assert text.startswith('no table: evaluation needs labeled images')
    assert {path.name for path in work.iterdir() if path.is_file()} == {*PICTURES, 'report.html'}
    page = (work / 'report.html').read_text()
    assert text[1:] in page
    assert 'by LGP.' in page  # its map
    assert '<table' not in page


def strict_json(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def test_diverged_encoders_leave_the_other_rows(folder, finished, tmp_path):
    work = shutil.copytree(finished[0], tmp_path / 'work')
    for name in ('mim', 'cl'):
        checkpoint = load(weights(work, name))
        checkpoint['state_dict']['backbone.cls_token'].fill_(math.nan)
        torch.save(checkpoint, weights(work, name))
        note = work / name / 'done.json'
        done = {**json.loads(note.read_text()), 'sha256': file_sha256(weights(work, name))}
        note.write_text(json.dumps(done))
    text = write_report(load_recipe(folder / 'recipe.py'), work).text
    before, result = (strict_json(each / 'table.json') for each in (finished[0], work))
    kept = {name: row for name, row in before['rows'].items() if row.get('encoder') not in ('MIM', 'CL')}
    assert result['rows'] == kept
    assert before['not_scored'] == {}
    assert list(result['not_scored']) == ['MIM', 'CL']
    page = (work / 'report.html').read_text()
    for name, why in result['not_scored'].items():
        assert 'backbone.cls_token holds NaN or infinite values' in why
        assert str(weights(work, name.lower())) in why
        assert f'\n{name} is not scored: {why}' in text
        assert f'{name} is not scored' in page
    assert 'hold NaN or infinity: MIM, CL.' in page


# ---------------------------------------------------------------- progress
def test_progress_line(folder, tmp_path, capsys):
    recipe = load_recipe(folder / 'recipe.py')
    view = ProgressView(recipe, tmp_path)
    for name in ('mim', 'cl'):
        (tmp_path / name).mkdir()
    (tmp_path / 'mim' / 'done.json').write_text(
        json.dumps({'checkpoint': 'epoch_1.pth', 'notes': ['much was skipped']})
    )
    state = {'iter': 30, 'max_iters': 120, 'loss': 0.12345, 'seconds': 9.0, 'seconds_left': 27.4}
    (tmp_path / 'cl' / 'progress.json').write_text(json.dumps(state))
    view.show(['cl', 'lgp'])
    shown = capsys.readouterr().out.split(' | ')
    assert shown[0].startswith('1/3 stages done, ')
    assert shown[1:] == ['cl 25 %, 27 s left, loss 0.123', 'lgp starting\n']
    view.show(['cl', 'lgp'])
    assert capsys.readouterr().out == ''  # not on a terminal: now and then only
    view.note('mim')
    assert capsys.readouterr().out == 'note on mim: much was skipped\n'
    view.show([])
    assert capsys.readouterr().out.startswith('1/3 stages done, ')


def test_nothing_is_started_where_all_is_done(folder, finished, capsys):
    run_jobs(load_recipe(folder / 'recipe.py'), finished[0], jobs=1)
    assert 'starting' not in capsys.readouterr().out
