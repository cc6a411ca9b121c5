"""Hooks: history and progress, bad losses, checkpoints that need no code to be read, reproducible draws."""

import json
import math
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import build, moco_config, vit_config
from mmengine.logging import HistoryBuffer
from torch.utils.data import DataLoader, TensorDataset

from mmselfsup_graft.engine import HistoryHook, LayerWiseLRConstructor, RandomStateHook, SafeCheckpointHook
from mmselfsup_graft.engine.resuming.latest import latest_checkpoint
from mmselfsup_graft.engine.resuming.stored_log import stored_log
from mmselfsup_graft.errors import ConfigError


class Rates:
    """Optimizer wrapper of which hooks ask rates only."""

    param_groups = ()

    def get_lr(self) -> dict[str, list[float]]:
        return {'lr': [0.1, 0.2]}


def fake_runner(folder, iteration: int = 0, **attributes) -> SimpleNamespace:
    model = attributes.pop('model', None) or build(moco_config(vit_config(depth=2)))
    defaults = dict(
        work_dir=str(folder), iter=iteration, max_iters=20, epoch=0, rank=0, seed=3, model=model, optim_wrapper=Rates()
    )
    defaults.update(train_dataloader=loader(8), world_size=1)
    return SimpleNamespace(**{**defaults, **attributes})


def loader(images: int, batch_size: int = 4, **dataset) -> DataLoader:
    data = TensorDataset(torch.zeros(images))
    for name, value in dataset.items():
        setattr(data, name, value)
    return DataLoader(data, batch_size=batch_size, drop_last=True)


def rows_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]


# ---------------------------------------------------------------- history
def run_iterations(hook: HistoryHook, runner: SimpleNamespace, stop: int) -> None:
    hook.before_train(runner)
    for iteration in range(runner.iter, stop):
        runner.iter = iteration
        loss = torch.tensor(float(iteration), requires_grad=True)
        hook.after_train_iter(runner, 0, outputs={'loss': loss, 'loss_b': torch.tensor(0.5)})


def test_history_has_a_line_per_interval_and_for_the_last_iteration(tmp_path):
    run_iterations(HistoryHook(interval=6), fake_runner(tmp_path), 20)
    assert [row['iter'] for row in rows_of(tmp_path)] == [5, 11, 17, 19]
    assert rows_of(tmp_path)[0] == {'iter': 5, 'epoch': 0, 'loss': 5.0, 'loss_b': 0.5, 'lr': [0.1, 0.2]}


def test_a_resumed_run_cuts_what_was_written_beyond_its_checkpoint(tmp_path):
    run_iterations(HistoryHook(interval=2), fake_runner(tmp_path), 11)
    with (tmp_path / 'history.jsonl').open('a') as file:
        file.write('{"iter": 1')  # a kill in the middle of a line
    run_iterations(HistoryHook(interval=2), fake_runner(tmp_path, iteration=6), 20)
    assert [row['iter'] for row in rows_of(tmp_path)] == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


def test_a_run_from_the_beginning_starts_an_empty_history(tmp_path):
    for stop in (11, 4):
        run_iterations(HistoryHook(interval=2), fake_runner(tmp_path), stop)
    assert [row['iter'] for row in rows_of(tmp_path)] == [1, 3]


def test_progress_says_where_the_run_is_and_how_long_it_takes(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, 'time', lambda: clock.now)
    monkeypatch.setattr(time, 'process_time', lambda: 1.5 * clock.now)
    hook, runner = HistoryHook(interval=5, seconds=0.0), fake_runner(tmp_path, max_iters=20)
    hook.before_train(runner)
    for runner.iter in range(5):
        clock.now += 2.0
        hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.5)})
    few = ['only 20 optimizer steps, too few to learn much; train for more epochs']
    expected = {'notes': few, 'iter': 5, 'max_iters': 20, 'loss': 1.5, 'seconds': 10.0, 'seconds_left': 30.0}
    expected['cpu_seconds'] = 15.0
    assert json.loads((tmp_path / 'progress.json').read_text()) == expected

    # resumed from iteration 4: seconds go on, the pace is that of the new process
    clock.now = 5000.0
    hook, runner = HistoryHook(interval=5, seconds=0.0), fake_runner(tmp_path, iteration=4, max_iters=20)
    hook.before_train(runner)
    clock.now += 1.0
    hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.0)})
    few = ['only 20 optimizer steps, too few to learn much; train for more epochs']
    expected = {'notes': few, 'iter': 5, 'max_iters': 20, 'loss': 1.0, 'seconds': 11.0, 'seconds_left': 15.0}
    expected['cpu_seconds'] = 16.5
    assert json.loads((tmp_path / 'progress.json').read_text()) == expected
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize('earlier', [{}, {'cpu_seconds': math.nan}])
def test_a_run_that_an_older_version_began_has_no_cpu_seconds(tmp_path, earlier):
    (tmp_path / 'progress.json').write_text(json.dumps({'seconds': 7.0, **earlier}))
    run_iterations(HistoryHook(), fake_runner(tmp_path, iteration=4), 6)
    progress = json.loads((tmp_path / 'progress.json').read_text(), parse_constant=pytest.fail)
    assert progress['seconds'] >= 7
    assert 'cpu_seconds' not in progress


def test_progress_shows_the_last_loss_of_the_history(tmp_path):
    hook, runner, seen = HistoryHook(interval=4, seconds=0.0), fake_runner(tmp_path, max_iters=10), []
    hook.before_train(runner)
    for runner.iter in range(10):
        hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(float(runner.iter))})
        seen.append(json.loads((tmp_path / 'progress.json').read_text())['loss'])
    assert seen == [None] * 3 + [3.0] * 4 + [7.0] * 2 + [9.0]


def test_progress_notes_what_the_losses_do_not_show(tmp_path):
    def notes(**attributes) -> list[str]:
        run_iterations(HistoryHook(), fake_runner(tmp_path, **attributes), 1)
        return json.loads((tmp_path / 'progress.json').read_text())['notes']

    assert notes(max_iters=1000) == []
    assert 'only 20 optimizer steps' in notes()[0]
    (left_out,) = notes(max_iters=1000, train_dataloader=loader(7))
    assert left_out.startswith('3 of 7 images are left out of every epoch')
    assert notes(max_iters=1000, train_dataloader=loader(8), world_size=1) == []
    (unreadable,) = notes(max_iters=1000, train_dataloader=loader(8, num_corrupt=3))
    assert unreadable.startswith('3 of 8 images could not be read')


def test_progress_is_not_written_more_often_than_asked_for(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, 'time', lambda: clock.now)
    hook, runner = HistoryHook(seconds=5.0), fake_runner(tmp_path, max_iters=9)
    hook.before_train(runner)
    seen = []
    for runner.iter in range(9):
        clock.now += 2.0
        hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.0)})
        seen.append(json.loads((tmp_path / 'progress.json').read_text())['iter'])
    assert seen == [1, 1, 1, 4, 4, 4, 7, 7, 9]


def test_peak_rate_over_depth(tmp_path):
    model = build(moco_config(vit_config(depth=4, stop_grad_patch_embed=True)))
    settings = dict(optimizer=dict(type='AdamW', lr=2.0, weight_decay=0.1))
    wrapper = LayerWiseLRConstructor(settings, dict(lr_layer_wise=[0.1, 1.0]))(model)
    for group in wrapper.param_groups:
        group['initial_lr'], group['lr'] = group['lr'], 0.0  # as a schedule leaves them at the start of a warm-up
    HistoryHook().before_train(fake_runner(tmp_path, model=model, optim_wrapper=wrapper))
    layers = json.loads((tmp_path / 'param_groups.json').read_text())['layers']
    assert [layer['name'] for layer in layers] == ['stem', *(f'block {i}' for i in range(4)), 'heads']
    assert [layer['lr'] for layer in layers] == pytest.approx([0.2, 0.2, 0.2, 2.0, 2.0, 2.0])


def test_frozen_layers_have_rate_zero(tmp_path):
    model = build(moco_config(vit_config(depth=4), frozen_layers=2))
    wrapper = LayerWiseLRConstructor(dict(optimizer=dict(type='SGD', lr=0.5)))(model)
    for group in wrapper.param_groups:
        group['initial_lr'] = group['lr']
    HistoryHook().before_train(fake_runner(tmp_path, model=model, optim_wrapper=wrapper))
    layers = json.loads((tmp_path / 'param_groups.json').read_text())['layers']
    assert [layer['lr'] for layer in layers] == [0.0, 0.0, 0.0, 0.5, 0.5, 0.5]


# ---------------------------------------------------------------- checkpoints
def test_one_kept_checkpoint_is_refused():
    with pytest.raises(ConfigError, match='max_keep_ckpts=1 would delete'):
        SafeCheckpointHook(interval=1, max_keep_ckpts=1)
    for count in (2, -1):
        assert SafeCheckpointHook(interval=1, max_keep_ckpts=count).max_keep_ckpts == count


def test_logged_scalars_survive_a_file_that_holds_plain_numbers_only(tmp_path):
    buffer = HistoryBuffer([1.0, 2.5], [1, 4])
    hub = {'log_scalars': {'train/loss': buffer}, 'runtime_info': {'eta': np.float64(1.25), 'iter': 7, 'cfg': 'text'}}
    checkpoint, hook = {'message_hub': hub, 'meta': {}}, SafeCheckpointHook(interval=1)
    hook.before_save_checkpoint(SimpleNamespace(_train_loop=None, model=torch.nn.Identity()), checkpoint)
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    read = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert read['message_hub']['runtime_info'] == {'eta': 1.25, 'iter': 7, 'cfg': 'text'}
    log = stored_log(read['message_hub'], 'epoch_1.pth')
    values, counts = log['log_scalars']['train/loss'].data
    assert (values.tolist(), counts.tolist()) == ([1.0, 2.5], [1, 4])
    assert log['log_scalars']['train/loss'].mean() == pytest.approx(3.5 / 5)
    assert log['runtime_info'] == {'eta': 1.25}  # the rest is what a run says about itself


def test_newest_checkpoint_is_found_by_name_among_other_files(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ('epoch_9.pth', 'epoch_10.pth', '.epoch_11.pth.tmp', 'epoch_x.pth', 'best_epoch_12.pth', 'mae.pth'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'last_checkpoint').write_text('')  # as a kill may leave it
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_10.pth')


# ---------------------------------------------------------------- random state
def draws(seed: int = 3, rank: int = 0, iteration: int = 5) -> tuple:
    RandomStateHook().before_train_iter(SimpleNamespace(seed=seed, rank=rank, iter=iteration), 0)
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_draws_are_a_function_of_seed_rank_and_iteration():
    expected = draws()
    for other in (1, 2):
        draws(iteration=other)
        random.random(), np.random.rand(other), torch.rand(other)
        assert draws() == expected


def test_neighboring_iterations_ranks_and_seeds_draw_other_numbers():
    keys = [(seed, rank, iteration) for seed in range(4) for rank in range(4) for iteration in range(16)]
    found = [draws(*key) for key in keys]
    for generator in range(3):
        values = {each[generator] for each in found}
        assert len(values) == len(keys)
        assert 0.4 < np.mean(list(values)) < 0.6
        assert 0.05 < np.var(list(values)) < 0.12  # uniform: 1 / 12


def test_the_seed_of_the_run_reaches_the_sampler():
    told = []
    loader = SimpleNamespace(sampler=SimpleNamespace(set_seed=told.append))
    RandomStateHook().before_train(SimpleNamespace(seed=11, train_dataloader=loader))
    assert told == [11]
