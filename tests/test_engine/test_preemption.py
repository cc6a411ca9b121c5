"""A run that is asked to stop by a signal: it writes a checkpoint at once, and resumed it ends with the same bits."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import run_ranks
from mmengine.hooks import Hook
from test_tools.test_finetune import BACKBONE, WIDTH, finetune_config
from test_tools.tiny_runs import assert_same_run, load, merged, run_tool_process, tiny_config, write_config
from tiny_finetuning import write_contrastive

from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.resuming.latest import advice_to_continue, latest_checkpoint
from mmselfsup_graft.engine.train import load_config, train
from mmselfsup_graft.registry import DATA_SAMPLERS, HOOKS
from mmselfsup_graft.utils import stop_signals
from mmselfsup_graft.utils.stop_signals import EXIT_PREEMPTED, Preempted

LENGTH = 8  # iterations: 2 epochs of 4


@HOOKS.register_module()
class SignalAt(Hook):
    """Send this process a signal in the middle of an iteration, or of a validation.

    Args:
        iteration: The iteration, from 1; in a validation, how many were trained before it.
        number: The signal.
        validating: In the validation.
        rank: The process that gets it.
    """

    priority = 'HIGHEST'

    def __init__(self, iteration: int, number: int = signal.SIGTERM, validating: bool = False, rank: int = 0) -> None:
        self.iteration, self.number, self.validating, self.rank = iteration, number, validating, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if not self.validating:
            self._send(runner, runner.iter + 1)

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        if self.validating and batch_idx == 1:
            self._send(runner, runner.iter)

    def _send(self, runner, iteration: int) -> None:
        if iteration == self.iteration and runner.rank == self.rank:
            os.kill(os.getpid(), self.number)


@DATA_SAMPLERS.register_module()
class PlainBatches(torch.utils.data.BatchSampler):
    """torch's own, under a name that a config can give."""


def start(config: Path, folder: Path, *signals: dict[str, Any], resume: bool = False) -> GraftRunner:
    cfg = load_config(config)
    cfg.work_dir, cfg.resume = str(folder), resume
    cfg.experiment_name = f'{folder.name}_{id(cfg)}'
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *(dict(type='SignalAt', **each) for each in signals)]
    runner = GraftRunner.from_cfg(cfg)
    runner.train()
    return runner


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


@pytest.fixture
def config(tmp_path) -> Path:
    less = {'train_dataloader': {'dataset': dict(indices=4 * LENGTH)}}
    return write_config(tmp_path / 'cl.py', merged(tiny_config('cl'), less))


# ---------------------------------------------------------------- one process
@pytest.mark.parametrize(('stop', 'number'), [(1, signal.SIGTERM), (3, signal.SIGUSR1), (4, signal.SIGTERM)])
def test_preempted_and_resumed_ends_with_the_same_bits(stop, number, config, tmp_path, quick):
    start(config, tmp_path / 'whole')
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    with pytest.raises(Preempted, match=f'stopped by {signal.Signals(number).name} after iteration {stop};') as stopped:
        start(config, tmp_path / 'run', dict(iteration=stop, number=number))
    assert stopped.value.code == EXIT_PREEMPTED == 75
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    assert latest_checkpoint(tmp_path / 'run') == str(tmp_path / 'run' / f'iter_{stop}.pth')
    assert not list((tmp_path / 'run').glob('.*.tmp'))

    runner = start(config, tmp_path / 'run', resume=True)
    assert runner.iter == LENGTH
    assert checkpoints(tmp_path / 'run') == checkpoints(tmp_path / 'whole')  # the one in between is not needed any more
    assert_same_run(tmp_path / 'run' / 'epoch_2.pth', tmp_path / 'whole' / 'epoch_2.pth')
    assert (tmp_path / 'run' / 'history.jsonl').read_text() == (tmp_path / 'whole' / 'history.jsonl').read_text()


def test_the_checkpoint_of_a_stop_stays_until_a_later_one_is_complete(config, tmp_path, quick):
    for stop, resume in ((2, False), (3, True)):
        with pytest.raises(Preempted):
            start(config, tmp_path / 'run', dict(iteration=stop), resume=resume)
        assert checkpoints(tmp_path / 'run') == [f'iter_{stop}.pth']
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    cfg = load_config(config)
    cfg.work_dir, cfg.resume_from = str(tmp_path / 'other'), str(tmp_path / 'copy' / 'iter_3.pth')
    cfg.resume, cfg.experiment_name = True, f'other_{tmp_path.name}'
    GraftRunner.from_cfg(cfg).train()
    assert checkpoints(tmp_path / 'copy') == ['iter_3.pth']  # of another run: left alone
    start(config, tmp_path / 'run', resume=True)
    assert_same_run(tmp_path / 'run' / 'epoch_2.pth', tmp_path / 'other' / 'epoch_2.pth')


def test_gradients_that_wait_for_their_step_are_not_lost(tmp_path, quick):
    content = merged(tiny_config('mim', images=32), dict(optim_wrapper=dict(accumulative_counts=2)))
    config = write_config(tmp_path / 'mim.py', content)
    start(config, tmp_path / 'whole')
    with pytest.raises(Preempted, match='after iteration 4;'):
        start(config, tmp_path / 'run', dict(iteration=3))
    start(config, tmp_path / 'run', resume=True)
    assert_same_run(tmp_path / 'run' / 'epoch_2.pth', tmp_path / 'whole' / 'epoch_2.pth')


def test_the_regular_checkpoint_of_the_same_iteration_is_not_written_twice(tmp_path, quick):
    often = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=2)))
    config = write_config(tmp_path / 'mim.py', merged(tiny_config('mim', images=32), often))
    with pytest.raises(Preempted):
        start(config, tmp_path / 'run', dict(iteration=3))
    assert 'preempted' not in load(tmp_path / 'run' / 'iter_3.pth')['meta']
    start(config, tmp_path / 'run', resume=True)
    assert checkpoints(tmp_path / 'run') == ['iter_6.pth', 'iter_8.pth']


def test_an_interrupted_validation_is_repeated(tmp_path, quick):
    """With averaged weights, which the validation puts in the place of the trained ones."""
    write_contrastive(BACKBONE, WIDTH, tmp_path / 'moco.pth')
    content = finetune_config(custom_hooks=[dict(type='WeightAverageHook', decay=0.5)])
    content['model']['graft'] = [dict(checkpoint=str(tmp_path / 'moco.pth'))]
    config = write_config(tmp_path / 'tune.py', content)
    whole = start(config, tmp_path / 'whole')
    for number, (iteration, validating) in enumerate([(3, True), (5, False), (9, True), (12, True)]):
        with pytest.raises(Preempted, match=f'after iteration {iteration};'):
            start(config, tmp_path / 'run', dict(iteration=iteration, validating=validating), resume=number > 0)
    runner = start(config, tmp_path / 'run', resume=True)
    last = f'epoch_{runner.max_epochs}.pth'
    first, second = (load(tmp_path / name / last) for name in ('run', 'whole'))
    assert first['state_dict'].keys() == second['state_dict'].keys()
    for part in ('state_dict', 'ema_state_dict'):
        for name, value in second[part].items():
            assert torch.equal(first[part][name], value), name
    for key in ('best_score', 'best_epoch'):
        assert runner.message_hub.get_info(key) == whole.message_hub.get_info(key)
    assert checkpoints(tmp_path / 'run') == checkpoints(tmp_path / 'whole')


def test_a_loop_of_mmengine_is_resumed_in_the_middle_of_an_epoch(tmp_path, quick):
    """As detectors have it: another sampler inside a batch sampler, and workers that load ahead."""
    content = tiny_config('mim', images=32, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2))
    loader = content['train_dataloader']
    del loader['batch_size'], loader['drop_last']
    loader |= dict(
        num_workers=1,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='PlainBatches', batch_size=8, drop_last=True),
    )
    # nothing random in the images: without our sampler they are drawn anew
    loader['dataset']['pipeline'] = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    config = write_config(tmp_path / 'mim.py', content)
    start(config, tmp_path / 'whole')
    with pytest.raises(Preempted):
        start(config, tmp_path / 'run', dict(iteration=6))
    assert start(config, tmp_path / 'run', resume=True).iter == LENGTH
    assert_same_run(tmp_path / 'run' / 'epoch_2.pth', tmp_path / 'whole' / 'epoch_2.pth')


def test_a_signal_after_the_last_look_is_not_forgotten(config, tmp_path, quick):
    with pytest.raises(Preempted), stop_signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_ends_at_once_unless_it_is_the_same_one(monkeypatch):
    left, now = [], [100.0]
    request = stop_signals.StopRequest()
    monkeypatch.setattr(request, 'leave', left.append)
    monkeypatch.setattr(stop_signals.time, 'monotonic', lambda: now[0])
    request.deferred = True
    for seconds, expected in ((0.0, []), (1.5, []), (2.5, ['SIGTERM'])):
        now[0] = 100.0 + seconds
        request.handle(signal.SIGTERM)
        assert left == expected
    outside = stop_signals.StopRequest()
    monkeypatch.setattr(outside, 'leave', left.append)
    outside.handle(signal.SIGUSR1)
    assert left == ['SIGTERM', 'SIGUSR1']


def test_the_option_is_advised_where_the_tool_needs_it(config, tmp_path, quick):
    run = tmp_path / 'run'
    assert '--resume' not in stop_signals.StopRequest().advice()
    assert '--resume' not in advice_to_continue(run)
    run.mkdir()
    (run / 'history.jsonl').touch()  # the tool refuses to begin anew there
    assert {'--resume', 'start'} <= set(re.split(r'[ ,)]+', advice_to_continue(run)))
    start(config, run)
    assert stop_signals.request.advice() == advice_to_continue(run)
    assert {'--resume', 'continue'} <= set(re.split(r'[ ,)]+', advice_to_continue(run)))


def test_a_tool_leaves_with_75_and_says_how_to_continue(tmp_path):
    """With workers; the first run is stopped while it trains, the second, of another tool, before it does."""
    hook = 'from test_engine.test_preemption import SignalAt  # noqa'
    (tmp_path / 'signal_at.py').write_text(hook)
    options = dict(custom_imports=dict(imports=['signal_at']), custom_hooks=[dict(type='SignalAt', iteration=2)])
    content = merged(tiny_config('mim', images=32, **options), dict(train_dataloader=dict(num_workers=1)))
    config = write_config(tmp_path / 'mim.py', content)
    path = os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parents[1], tmp_path)))
    done = run_tool_process('train', config, '--work-dir', tmp_path / 'run', PYTHONPATH=path)
    assert done.code == EXIT_PREEMPTED, done.err[-2000:]
    assert f'{tmp_path / "run" / "iter_2.pth"} is written. Run the same command again' in done.err
    assert 'Traceback' not in done.err


# ---------------------------------------------------------------- several processes
def two_ranks(rank: int, folder: str, hook: dict[str, Any] | None, resume: bool, exchange: float) -> int:
    """Train on this rank; returns the exit code."""
    from mmselfsup_graft.engine.hooks import preemption

    preemption._EXCHANGE_SECONDS, os.environ['LOCAL_RANK'] = exchange, str(rank)
    cfg = load_config(Path(folder) / 'cl.py')
    cfg.work_dir, cfg.launcher, cfg.resume = (
        str(Path(folder) / ('run' if hook or resume else 'whole')),
        'pytorch',
        resume,
    )
    cfg.custom_hooks = [hook] if hook else []
    try:
        train(cfg)
    except Preempted as stopped:
        return int(stopped.code)
    return 0


def test_ranks_stop_at_the_same_iteration_whichever_gets_the_signal(tmp_path):
    write_config(tmp_path / 'cl.py', tiny_config('cl', images=64, batch=8))  # 2 epochs of 4 iterations
    where = str(tmp_path)
    assert run_ranks(two_ranks, 2, where, None, False, 0.0) == [0, 0]
    hook = dict(type='SignalAt', iteration=2, rank=1)
    assert run_ranks(two_ranks, 2, where, hook, False, 0.0) == [EXIT_PREEMPTED, EXIT_PREEMPTED]
    assert checkpoints(tmp_path / 'run') == ['iter_2.pth']
    hook = dict(type='SignalAt', iteration=5, rank=0)
    assert run_ranks(two_ranks, 2, where, hook, True, 0.0) == [EXIT_PREEMPTED, EXIT_PREEMPTED]
    assert run_ranks(two_ranks, 2, where, None, True, 1.0) == [0, 0]
    assert_same_run(tmp_path / 'run' / 'epoch_2.pth', tmp_path / 'whole' / 'epoch_2.pth')
