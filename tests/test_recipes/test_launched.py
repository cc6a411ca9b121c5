"""The launchers on a CPU: two processes train one model, alone and in a recipe."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_recipes.test_stage_kinds import write_files
from test_tools.tiny_runs import ROOT, assert_identical, load, tiny_config, write_config

from mmselfsup_graft.recipes.recipe import read_done

pytestmark = pytest.mark.slow

# every process keeps its own weights at the end of the run
KEEP = """
import torch
from mmengine.hooks import Hook
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class KeepWeights(Hook):
    def __init__(self, folder):
        self.folder = folder

    def after_train(self, runner):
        state = {'state_dict': runner.model.module.state_dict(), 'optimizer': runner.optim_wrapper.state_dict()}
        torch.save({**state, 'world': runner.world_size}, f'{self.folder}/rank_{runner.rank}.pth')
"""


def launch(script: str, *arguments: object, folder: Path) -> str:
    """``bash tools/SCRIPT ARGUMENTS`` with this interpreter; returns what it printed."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    variables = {**os.environ, 'GRAFT_PYTHON': sys.executable, 'GRAFT_VENV': str(folder / 'none'), 'PORT': str(port)}
    variables |= {'PYTHONPATH': f'{ROOT}{os.pathsep}{folder}', 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    command = ['bash', str(ROOT / 'tools' / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def keeping(tmp_path) -> dict:
    (tmp_path / 'keep.py').write_text(KEEP)
    hook = dict(type='KeepWeights', folder=str(tmp_path))
    return dict(custom_imports=dict(imports=['keep']), custom_hooks=[hook])


def test_two_processes_hold_the_same_weights(keeping, tmp_path):
    config = write_config(tmp_path / 'cl.py', tiny_config('cl', images=32, batch=4, **keeping))
    launch('dist_train.sh', config, 2, '--work-dir', tmp_path / 'run', folder=tmp_path)
    first, second = (load(tmp_path / f'rank_{rank}.pth') for rank in range(2))
    assert first['world'] == second['world'] == 2
    assert_identical(first['state_dict'], second['state_dict'])
    assert_identical(first['optimizer'], second['optimizer'])
    written = load(tmp_path / 'run' / 'epoch_2.pth')
    assert written['meta']['iter'] == 8  # 2 epochs of 32 images in steps of 2 x 4
    assert_identical(dict(written['state_dict']), dict(first['state_dict']))
    assert not any(name.startswith('module.') for name in written['state_dict'])


def test_a_recipe_under_a_launcher(tmp_path):
    for kind in ('mim', 'lgp'):
        write_config(tmp_path / f'{kind}.py', tiny_config(kind, images=32, batch=4))
    graft = {'model.graft': [dict(checkpoint='stage:mim')]}
    stages = [dict(name='mim', config='mim.py'), dict(name='lgp', config='lgp.py', options=graft)]
    report = dict(rows=[dict(name='LGP', stage='lgp')], reconstruct=['mim'])
    recipe = write_config(tmp_path / 'recipe.py', dict(stages=stages, report=report))
    printed = launch('dist_recipe.sh', recipe, 2, '--work-dir', tmp_path / 'work', folder=tmp_path)
    assert [read_done(tmp_path / 'work', name)['iterations'] for name in ('mim', 'lgp')] == [8, 8]
    assert printed.count((tmp_path / 'work' / 'table.txt').read_text()) == 1  # the main process alone reports
    mim, lgp = (load(tmp_path / 'work' / name / 'epoch_2.pth')['state_dict'] for name in ('mim', 'lgp'))
    assert (mim['backbone.patch_embed.projection.weight'] == lgp['backbone.patch_embed.projection.weight']).all()


def test_every_kind_of_stage_under_a_launcher(tmp_path):
    """Two processes train, score and fine-tune; what was done is not done again."""
    write_files(tmp_path)
    work = tmp_path / 'work'
    printed = launch('dist_recipe.sh', tmp_path / 'recipe.py', 2, '--work-dir', work, folder=tmp_path)
    names = ['mim', 'lgp', 'probe', 'tuned']
    results = {name: read_done(work, name)['results'] for name in names[2:]}
    assert results['probe'].keys() == {'linear', 'logistic', 'few_shot', 'knn'}
    line = f'tuned: finetune {results["tuned"]["finetune"]["accuracy"]:.2f} %'
    assert printed.splitlines().count(line) == 1  # the main process alone reports
    assert [row['processes'] for row in rows(work / 'probe')] == [2] * 4
    before = {name: (work / name / 'done.json').stat().st_mtime_ns for name in names}
    (work / 'probe' / 'done.json').unlink()
    launch('dist_recipe.sh', tmp_path / 'recipe.py', 2, '--work-dir', work, folder=tmp_path)
    after = {name: (work / name / 'done.json').stat().st_mtime_ns for name in names}
    assert [name for name in names if before[name] != after[name]] == ['probe']
    assert read_done(work, 'probe')['results'] == results['probe']


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / 'results.jsonl').read_text().splitlines()]
