"""A fault on one of two processes: both stop together, and the one that met it keeps its batch."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import run_ranks
from mmengine.hooks import Hook
from test_tools.tiny_runs import tiny_config, write_config

from mmselfsup_graft.engine.train import load_config, train
from mmselfsup_graft.errors import GraftError
from mmselfsup_graft.registry import HOOKS

WORLD = 2


@HOOKS.register_module(force=True)
class SpoilOnOne(Hook):
    """NaN in an image of process 1, or only in its loss, at one iteration."""

    def __init__(self, kind: str, iteration: int) -> None:
        self.kind, self.iteration, self.now = kind, iteration, False
        self.bad = torch.zeros(0)

    def before_train(self, runner: Any) -> None:
        model = runner.model.module
        if self.kind == 'data':
            model.data_preprocessor.register_forward_hook(self.spoil)
        else:
            parse = model.parse_losses
            model.parse_losses = lambda losses: parse({'loss': losses['loss'] + (torch.nan if self.now else 0.0)})

    def spoil(self, _module: Any, given: Any, output: dict[str, Any]) -> None:
        if torch.equal(given[0]['inputs'][0], self.bad):  # whenever the batch of that iteration comes
            output['inputs'][0].view(-1)[0] = torch.nan

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.now = runner.rank == 1 and runner.iter == self.iteration
        if self.now and self.kind == 'data':
            self.bad = data_batch['inputs'][0].clone()


def runs(rank: int, path: str) -> dict[str, Any]:
    """Each case on this rank: how it ended."""
    os.environ['LOCAL_RANK'] = str(rank)
    ends = {}
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        'data': ('data', {}),
        'loss': ('loss', {}),
        'skip': ('data', dict(nonfinite=dict(skip_nonfinite=1))),
        'skip_loss': ('loss', dict(nonfinite=dict(skip_nonfinite=1))),
    }
    for name, (kind, hooks) in cases.items():
        checkpoint = dict(by_epoch=False, interval=4, max_keep_ckpts=-1)
        content = tiny_config('cl', images=64, default_hooks=dict(checkpoint=checkpoint, **hooks))
        content['custom_hooks'] = [dict(type='SpoilOnOne', kind=kind, iteration=5)]
        content['model_wrapper_cfg'] = dict(type='MMDistributedDataParallel', find_unused_parameters=False)
        cfg = load_config(write_config(Path(path) / f'{name}.{rank}.py', content))
        cfg.work_dir, cfg.launcher, cfg.experiment_name = f'{path}/{name}', 'pytorch', f'{Path(path).name}_{name}'
        try:
            train(cfg)
            ends[name] = 'done'
        except GraftError as error:
            ends[name] = str(error)
    return ends


@pytest.fixture(scope='module')
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of the runs, and how they ended on each process."""
    path = tmp_path_factory.mktemp('faults')
    return path, run_ranks(runs, WORLD, str(path))


@pytest.mark.parametrize('name', ['data', 'loss'])
def test_both_stop_with_one_message(ended: tuple[Path, list[dict[str, Any]]], name: str) -> None:
    folder, ends = ended
    assert ends[0][name] == ends[1][name]
    assert 'the loss became nan at iteration 5 on process 1' in ends[0][name]
    assert ('first in the output of data_preprocessor' in ends[0][name]) == (name == 'data')
    assert f'Resume from {folder / name / "iter_4.pth"}' in ends[0][name]
    assert not (folder / name / 'iter_8.pth').exists()
    kept = torch.load(folder / name / 'nonfinite_batch.pth', weights_only=True)
    assert kept['iter'] == 5
    assert len(kept['images']) == 8


@pytest.mark.parametrize('name', ['skip', 'skip_loss'])
def test_both_leave_the_step_out(ended: tuple[Path, list[dict[str, Any]]], name: str) -> None:
    folder, ends = ended
    assert [each[name] for each in ends] == ['done', 'done']
    content = torch.load(folder / name / 'iter_8.pth', weights_only=True)
    assert content['message_hub']['runtime_info']['skipped_steps'] == [5]
    assert all(value.isfinite().all() for value in content['state_dict'].values())
    assert {float(each['step']) for each in content['optimizer']['state'].values()} == {7.0}
