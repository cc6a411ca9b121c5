"""What is checked before a run is resumed: every damaged state is refused, and nothing of it is loaded."""

import copy
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OneCycleParamScheduler
from PIL import Image
from tampering import drop_at as drop
from tampering import put_at as put
from test_tools.tiny_runs import (
    assert_identical,
    assert_same_run,
    call_tool,
    fresh_name,
    load,
    merged,
    tiny_config,
    write_config,
)

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.hooks.checkpoint import SafeCheckpointHook
from mmselfsup_graft.engine.resuming.latest import latest_checkpoint, stored_counters_or_none
from mmselfsup_graft.engine.resuming.resume import load_weights, read_plain, resume
from mmselfsup_graft.engine.resuming.stored_log import check_best, stored_log
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import CheckpointError, ConfigError

NAN = float('nan')


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Save a third of a tiny run's time: the formatting of its config."""
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg.to_dict())))


def config(epochs: int = 2, **options: Any) -> dict[str, Any]:
    content = tiny_config('cl', images=16, epochs=epochs)
    content['default_hooks']['checkpoint'] = dict(interval=1, max_keep_ckpts=-1)
    return merged(content, options)


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Folder with a config and its run of two epochs of two iterations."""
    folder = tmp_path_factory.mktemp('resuming')
    done = call_tool('train', write_config(folder / 'cl.py', config()), '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return folder


def ready(path: Path, folder: Path, name: str) -> GraftRunner:
    """A runner right before it would load a checkpoint."""
    cfg = load_config(path)
    cfg.work_dir, cfg.experiment_name, cfg.resume = str(folder), name, True
    runner = GraftRunner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    runner.call_hook('before_run')
    runner._init_model_weights()
    return runner


@pytest.fixture(scope='module')
def fresh(trained, tmp_path_factory) -> GraftRunner:
    return ready(trained / 'cl.py', tmp_path_factory.mktemp('fresh'), 'fresh')


def everything(runner: GraftRunner) -> dict[str, Any]:
    return copy.deepcopy(
        {
            'weights': runner.model.state_dict(),
            'optimizer': runner.optim_wrapper.state_dict(),
            'schedules': [each.state_dict() for each in runner.param_schedulers],
            'log': dict(runner.message_hub.runtime_info),
            'counters': (runner.epoch, runner.iter, runner.seed),
        }
    )


# ---------------------------------------------------------------- damage
def moment(key: str, value: Any) -> Callable:
    """Replace an entry of the optimizer state of the sixth parameter."""
    return put(f'optimizer.state.5.{key}', value)


def endless(content: dict) -> None:
    """Counters of an endless run, of a version that stored neither settings nor schedules."""
    del content['meta']['run'], content['param_schedulers']
    content['meta'].update(epoch=10**9, iter=2 * 10**9)


GROUP, SCHEDULE, INFO = 'optimizer.param_groups.0', 'param_schedulers.0', 'message_hub.runtime_info'
DAMAGE = {
    # moments
    'another shape': (moment('exp_avg', torch.zeros(3)), r'exp_avg of \S+ .*has shape \(3,\), the run has \('),
    'empty': (moment('exp_avg_sq', torch.zeros(0)), r'exp_avg_sq of .* has shape \(0,\)'),
    'another type': (moment('exp_avg', lambda t: t.double()), 'type float64, the run has float32'),
    'half': (moment('exp_avg_sq', lambda t: t.half()), 'type float16'),
    'complex': (moment('exp_avg', lambda t: t.to(torch.complex64)), 'type complex64'),
    'whole numbers': (moment('exp_avg', lambda t: t.long()), 'type int64'),
    'sparse': (moment('exp_avg', lambda t: t.to_sparse()), 'sparse'),
    'meta': (moment('exp_avg', lambda t: t.to('meta')), 'without values'),
    'text': (moment('exp_avg', 'zero'), "is the text 'zero', expected a tensor"),
    'a list': (moment('exp_avg', [0.0]), 'is a list, expected a tensor'),
    'nan': (moment('exp_avg', lambda t: t * NAN), 'holds NaN or infinity'),
    'negative squares': (moment('exp_avg_sq', lambda t: t - 1), 'is negative'),
    'step as text': (moment('step', '2'), "step of .* is the text '2'"),
    'step of two dimensions': (moment('step', torch.ones(2, 2)), r'step of .* has shape \(2, 2\)'),
    'step of nan': (moment('step', torch.tensor(NAN)), 'step of .* NaN'),
    'negative step': (moment('step', torch.tensor(-1.0)), 'step of .* is negative'),
    'missing moment': (drop('optimizer.state.5.exp_avg_sq'), 'exp_avg_sq of .* is missing'),
    'unknown moment': (put(
        'optimizer.state.5.momentum_buffer', torch.zeros(1)), "'momentum_buffer', which this optimizer does not keep"),
    'missing entry': (drop('optimizer.state.5'), r'optimizer state of \d+ parameters, expected \d+'),
    'an entry of text': (put('optimizer.state.5', 'text'), "is the text 'text'"),
    'an entry too many': (put('optimizer.state.9999', {}), 'entry 9999 that belongs to no parameter'),
    'no entries': (put('optimizer.state', {}), 'optimizer state of 0 parameters'),
    'state is a list': (put('optimizer.state', []), "'state' of the optimizer is a list"),
    'optimizer is text': (put('optimizer', 'AdamW'), 'optimizer state is the text'),
    # hyper-parameters
    'rate as text': (put(f'{GROUP}.lr', '0.1'), "lr of parameter group 0 is the text '0.1'"),
    'rate of nan': (put(f'{GROUP}.lr', NAN), 'lr of parameter group 0 is nan'),
    'negative rate': (put(f'{GROUP}.lr', -1.0), 'parameter group 0 of the optimizer has a wrong value'),
    'five rates': (put(f'{GROUP}.lr', torch.zeros(5)), r'lr of parameter group 0 is a tensor of shape \(5,\)'),
    'no rate': (drop(f'{GROUP}.lr'), 'lr of parameter group 0 is missing'),
    'infinite first rate': (put(f'{GROUP}.initial_lr', float('inf')), 'initial_lr of parameter group 0 is inf'),
    'betas of one': (put(f'{GROUP}.betas', (0.9,)), 'betas of parameter group 0 is a tuple, expected 2'),
    'betas out of range': (put(f'{GROUP}.betas', (5.0, 0.9)), 'wrong value'),
    'decay as list': (put(f'{GROUP}.weight_decay', [0.1]), 'weight_decay of parameter group 0 is a list'),
    'extra tensor': (put(f'{GROUP}.extra', torch.zeros(3)), 'extra of parameter group 0 is a tensor'),
    'group without parameters': (put(f'{GROUP}.params', 3), 'parameter group 0 of the optimizer lists no'),
    'a parameter twice': (put(f'{GROUP}.params', lambda p: [p[0]] * len(p)), 'in two groups'),
    'a group less': (put('optimizer.param_groups', lambda g: g[:-1]), 'parameter groups of'),
    'groups of text': (put('optimizer.param_groups', ['a', 'b']), 'lists no parameters'),
    **{
        f'another {key}': (put(f'{GROUP}.{key}', value), f'{key} of parameter group 0 was ')
        for key, value in {
            'amsgrad': True, 'weight_decay': 30.0, 'betas': (0.0, 0.0), 'eps': 1e30, 'maximize': True,
            'initial_lr': 1e9, 'lr': lambda lr: lr * 1000 + 1,
        }.items()
    },
    'another base': (put('optimizer.base_param_settings.weight_decay', 9.0), 'weight_decay of parameter group 2 was 9'),
    'half a step': (moment('step', torch.tensor(0.5)), 'step of .* is 0.5, expected a whole number'),
    'too many steps': (moment('step', torch.tensor(1e9)), r'step of .* is 1e\+09, expected at most 4'),
    'fewer steps than stated': (put('meta.optimizer_steps', 5), r'has made 4 steps, expected 5'),
    'steps as text': (put('meta.optimizer_steps', '4'), "meta.optimizer_steps is the text '4'"),
    'too many steps of an older file': (
        lambda c: (c['meta'].pop('optimizer_steps'), moment('step', torch.tensor(5.0))(c)), 'expected at most 4'),
    'no entries of an older file': (
        lambda c: (c['meta'].pop('optimizer_entries'), c['optimizer']['state'].clear()), 'optimizer has no moments'),
    # schedules
    'another setting': (put(f'{SCHEDULE}.min_ratio', 1e9), 'min_ratio of schedule 0 was 1000000000.0, now it is 0'),
    'another parameter': (put(f'{SCHEDULE}.param_name', 'weight_decay'), 'param_name of schedule 0 was the text'),
    'another unit': (put(f'{SCHEDULE}.by_epoch', True), 'by_epoch of schedule 0 was True, now it is False'),
    'another base value': (put(f'{SCHEDULE}.base_values', lambda v: [1e6] * len(v)), 'base_values of schedule 0 are'),
    'another last value': (
        put(f'{SCHEDULE}._last_value', lambda v: [-1e6] * len(v)), 'lr of parameter group 0 .* file has -1000000'),
    'step of schedule as text': (put(f'{SCHEDULE}.last_step', '4'), "last_step is the text '4'"),
    'negative step of schedule': (put(f'{SCHEDULE}.last_step', -7), 'the step is'),
    'another step of its range': (put(f'{SCHEDULE}.last_step', 2), r'the step is 4 \(2 of its range\)'),
    'another step': (put(f'{SCHEDULE}._global_step', 3), 'the step is 3'),
    'base values of nan': (put(f'{SCHEDULE}.base_values', lambda v: [NAN] * len(v)), 'base_values is nan'),
    'fewer base values': (put(f'{SCHEDULE}.base_values', [1.0]), 'base_values is a list, expected'),
    'another method': (put(f'{SCHEDULE}._get_value', 'text'), 'there are other values'),
    'schedule of text': (put(SCHEDULE, 'text'), 'other values than this run has'),
    'schedules of text': (put('param_schedulers', 'text'), 'param_schedulers is the text'),
    # counters
    'negative iteration': (put('meta.iter', -1), 'iter is -1, expected a whole number'),
    'fractional iteration': (put('meta.iter', 4.0), 'iter is 4.0'),
    'iteration as text': (put('meta.iter', '4'), "iter is the text '4'"),
    'iteration of nan': (put('meta.iter', NAN), 'iter is nan'),
    'an endless run': (put('meta.iter', 2**60), 'iter is 1152921504606846976'),
    'iteration of another log': (put(f'{INFO}.iter', 1), r'meta.iter is 4, its log is of iteration 1'),
    'iteration of another epoch': (put('meta.iter', 1), 'iteration 1 is not in its epoch'),
    'iteration beyond the end': (put('meta.iter', 40), 'iteration 40 is beyond the end of this run, 4'),
    'epoch beyond the end': (lambda content: endless(content), 'epoch 1000000000 is beyond the end of this run, 2'),
    'true as epoch': (put('meta.epoch', True), 'epoch is True'),
    'no epoch': (drop('meta.epoch'), r'no meta\.epoch'),
    'a seed of text': (put('meta.seed', 'x'), "seed is the text 'x'"),
    'meta is a list': (put('meta', []), 'no meta'),
    'stop as text': (put('meta.preempted', 'x'), "meta.preempted is the text 'x'"),
    'stop of another name': (put('meta.preempted', {'a': 1}), 'meta.preempted is a dict'),
    'stop as list': (put('meta.preempted', [1]), 'meta.preempted is a list'),
    'stop as another kind': (put('meta.preempted', {'in_validation': 'no'}), 'meta.preempted is a dict'),
    # weights
    'weight missing': (
        lambda content: content['state_dict'].pop('backbone.cls_token'), r'backbone\.cls_token is missing'),
    'weight of text': (lambda c: c['state_dict'].update({'backbone.cls_token': 'x'}), 'cls_token is the text'),
    'weight of nan': (lambda c: c['state_dict']['backbone.cls_token'].fill_(NAN), 'cls_token holds NaN'),
    'weight of doubles': (
        lambda c: c['state_dict'].update({'backbone.cls_token': c['state_dict']['backbone.cls_token'].double()}),
        'cls_token has values of type float64, the model has float32',
    ),
    'weights in a list': (put('state_dict', []), 'no state_dict'),
    'an average': (put('ema_state_dict', {}), 'has an average of the weights'),
    # log
    'log of text': (put('message_hub', 'text'), 'message_hub.log_scalars is not a dict'),
    'history of text': (put('message_hub.log_scalars.train/loss', 'text'), "train/loss is the text 'text'"),
    'history of two lengths': (put('message_hub.log_scalars.train/loss', [[1.0], [1, 1]]), 'train/loss is a list'),
    'history without counts': (put('message_hub.log_scalars.train/loss', [[1.0], [0]]), 'counts above 0'),
    **{
        f'{key} is {value!r}': (put(f'{INFO}.{key}', value), f'runtime_info.{key} is the text')
        for key in ('best_ckpt', 'best_ckpt_x', 'best_file', 'last_ckpt')
        for value in ('..', '.', '', 'best_a\0b.pth', 'history.jsonl', 'a/..')
    },
    'best of another name': (put(f'{INFO}.best_ckpt', '/etc/epoch_1.pth'), 'expected the name of a checkpoint'),
    'a score of text': (put(f'{INFO}.best_score', 'high'), "best_score is the text 'high'"),
    'files to delete': (put(f'{INFO}.keep_ckpt_ids', ['../x']), 'keep_ckpt_ids is a list'),
}  # fmt: skip


@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_is_refused_and_nothing_is_loaded(kind, trained, fresh):
    change, message = DAMAGE[kind]
    content = read_plain(str(trained / 'run' / 'epoch_2.pth'))
    change(content)
    before = everything(fresh)
    with pytest.raises(CheckpointError, match=message) as refused:
        resume(fresh, 'some.pth', content)
    assert 'some.pth' in str(refused.value)
    assert '\n' not in str(refused.value)
    assert_identical(everything(fresh), before)


@pytest.mark.parametrize(
    ('where', 'value', 'equal'),
    [
        ('meta.run.processes', torch.tensor([1, 2]), False),
        ('meta.run.processes', torch.tensor(1), True),
        ('meta.run.model', torch.zeros(5000), False),
        ('meta.optimizer_entries', torch.tensor([1, 2]), False),
        ('meta.dataset_meta', torch.zeros(2), True),
        ('meta.dataset_meta', NAN, True),
        ('param_schedulers.0.end', torch.tensor([1, 2]), False),
        ('param_schedulers.0.end', torch.tensor(4), True),
        ('param_schedulers.0.verbose', None, True),
        ('message_hub.resumed_keys.train/loss', 'x', True),
        ('message_hub.resumed_keys.train/loss', False, True),
        ('message_hub.resumed_keys', 'x', True),
    ],
)
def test_tensors_and_other_values_in_a_description_of_the_run(where, value, equal, trained, fresh, tmp_path):
    """A tensor has no truth value; the log's own checks are assertions."""
    good = str(trained / 'run' / 'epoch_2.pth')
    resume(fresh, good, read_plain(good))
    before = everything(fresh)
    content = load(Path(good))
    put(where, value)(content)
    torch.save(content, tmp_path / 'some.pth')
    if equal:
        resume(fresh, 'some.pth', read_plain(str(tmp_path / 'some.pth')))
    else:
        with pytest.raises((CheckpointError, ConfigError), match=r'some\.pth'):
            resume(fresh, 'some.pth', read_plain(str(tmp_path / 'some.pth')))
    assert_identical(everything(fresh), before)


def log_of(info: dict[str, Any]) -> dict[str, Any]:
    return stored_log({'runtime_info': info}, 'a.pth')


def test_the_best_epoch_so_far_is_whole():
    hook = SafeCheckpointHook(save_best='accuracy/top1')
    good = {'best_score': 7.0, 'best_epoch': 2, 'best_file': 'best_accuracy_top1_epoch_2.pth'}
    assert check_best(log_of(good), [hook], 3, 'a.pth') == []
    check_best(log_of({}), [hook], 3, 'a.pth')
    check_best(log_of({'best_score': 7.0}), [SafeCheckpointHook()], 3, 'a.pth')
    other = [dict(best_score=NAN), dict(best_epoch=4), dict(best_epoch=1), dict(best_epoch=0)]
    for change in [*other, dict(best_file='best_accuracy_top1_epoch_1.pth'), dict(best_score=None)]:
        with pytest.raises(CheckpointError, match=r'a\.pth cannot be resumed: its best_score, best_ep'):
            check_best(log_of({**good, **change}), [hook], 3, 'a.pth')


def test_a_best_epoch_of_another_metric_is_another_setting():
    hook = SafeCheckpointHook(save_best='accuracy/top5')
    other = {'best_score': 7.0, 'best_epoch': 2, 'best_file': 'best_accuracy_top1_epoch_2.pth'}
    log = log_of({**other, 'else': 1})
    with pytest.raises(ConfigError, match=r'was selected by accuracy_top1, now by accuracy/top5.*resume_anyway=True'):
        check_best(log, [hook], 3, 'a.pth')
    assert log == log_of({**other, 'else': 1})
    assert len(check_best(log, [hook], 3, 'a.pth', anyway=True)) == 1
    assert log == log_of({'else': 1})
    with pytest.raises(CheckpointError, match='the file is damaged'):
        check_best(log_of({**other, 'best_epoch': 1}), [hook], 3, 'a.pth', anyway=True)


@pytest.mark.parametrize('name', ['epoch_1.pth', 'iter_2.pth', 'iter_3.pth'])
def test_only_the_checkpoint_of_a_stop_is_replaced(name, trained, tmp_path):
    """``meta.preempted`` lets the run delete the file that it was resumed from."""
    content = load(trained / 'run' / 'epoch_1.pth')
    content['meta']['preempted'] = {'in_validation': False}
    save_atomically(content, tmp_path / 'run' / name)
    options = ['--work-dir', tmp_path / 'run', '--resume', tmp_path / 'run' / name, *fresh_name()]
    assert call_tool('train', trained / 'cl.py', *options).code == 0
    assert (tmp_path / 'run' / name).exists() == (name != 'iter_2.pth')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t * NAN, 'holds NaN or infinity'),
        (lambda t: t.to(torch.float8_e4m3fn), 'values of type float8_e4m3fn, the model has float32'),
        (lambda t: t.to(torch.complex64), 'values of type complex64'),
        (lambda t: t > 0, 'values of type bool'),
    ],
)
def test_weights_that_are_not_finite_floats_are_not_loaded(change, message, trained, fresh):
    content = read_plain(str(trained / 'run' / 'epoch_2.pth'))
    name = next(name for name, _ in fresh.model.named_parameters())
    content['state_dict'][name] = change(content['state_dict'][name])
    before = everything(fresh)
    with pytest.raises(CheckpointError, match=f'some.pth does not fit this model: {re.escape(name)} .*{message}'):
        load_weights(fresh, content, 'some.pth')
    assert_identical(everything(fresh), before)


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floats_are_loaded(kind, trained, fresh):
    content = read_plain(str(trained / 'run' / 'epoch_2.pth'))
    name = next(name for name, _ in fresh.model.named_parameters())
    content['state_dict'][name] = wanted = content['state_dict'][name].to(kind)
    load_weights(fresh, content, 'some.pth')
    assert torch.equal(fresh.model.state_dict()[name], wanted.float())


def test_the_whole_state_arrives(trained, fresh):
    file = trained / 'run' / 'epoch_1.pth'
    resume(fresh, str(file), read_plain(str(file)))
    saved, now = load(file), everything(fresh)
    for name, value in saved['state_dict'].items():
        assert torch.equal(now['weights'][name], value)
    for number, entry in saved['optimizer']['state'].items():
        assert_identical(now['optimizer']['state'][number], entry)
    assert now['counters'][:2] == (1, 2)
    assert now['schedules'][0]['last_step'] == 2
    assert fresh.optim_wrapper.optimizer.param_groups[0]['lr'] == saved['optimizer']['param_groups'][0]['lr']


def test_a_loss_scale_starts_where_the_checkpoint_has_none(trained, tmp_path, monkeypatch):
    """As if a run of bfloat16 or float32 continues on a GPU that needs float16; a run on a CPU has no scaler."""
    content = config()
    content['optim_wrapper'].update(type='AutocastOptimWrapper', dtype='float32')
    runner = ready(write_config(tmp_path / 'cl.py', content), tmp_path / 'run', 'scale')
    runner.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=8.0)
    warnings: list[str] = []
    monkeypatch.setattr(runner.logger, 'warning', warnings.append)
    file = str(trained / 'run' / 'epoch_1.pth')
    resume(runner, file, read_plain(file))
    assert runner.optim_wrapper.loss_scaler.get_scale() == 8.0
    assert any('float16 in this run does: it starts at 8' in each for each in warnings)


def test_views_of_one_memory_become_tensors_of_their_own(trained, tmp_path):
    """A moment of one value, seen everywhere: an update in place would write to the same number again and again."""
    runner = ready(trained / 'cl.py', tmp_path, 'views')
    content = read_plain(str(trained / 'run' / 'epoch_1.pth'))
    for entry in content['optimizer']['state'].values():
        entry['exp_avg'] = torch.tensor(0.5).expand(entry['exp_avg'].shape)
    resume(runner, 'views.pth', content)
    for state in runner.optim_wrapper.optimizer.state.values():
        assert state['exp_avg'].is_contiguous()
        assert torch.equal(state['exp_avg'], torch.full(state['exp_avg'].shape, 0.5))


@pytest.mark.parametrize(
    ('optimizer', 'key'),
    [
        (dict(type='SGD', lr=0.01, momentum=0.9), 'momentum_buffer'),
        (dict(type='LARS', lr=0.01), 'mu'),
        (dict(type='AdamW', lr=0.001, amsgrad=True, foreach=True), 'max_exp_avg_sq'),
    ],
)
def test_moments_of_other_optimizers(optimizer, key, tmp_path):
    content = config(epochs=1)
    content['optim_wrapper'] = {**content['optim_wrapper'], 'optimizer': optimizer}
    path = write_config(tmp_path / 'config.py', content)
    assert call_tool('train', path, '--work-dir', tmp_path / 'run', *fresh_name()).code == 0
    runner, file = ready(path, tmp_path / 'again', key), str(tmp_path / 'run' / 'epoch_1.pth')
    for value, message in ((torch.zeros(7), r'has shape \(7,\)'), ('x', 'is the text'), (None, 'is missing|is None')):
        damaged = read_plain(file)
        damaged['optimizer']['state'][3][key] = value
        with pytest.raises(CheckpointError, match=f'{key} of .* {message}'):
            resume(runner, file, damaged)
    resume(runner, file, read_plain(file))
    assert_identical(
        {n: e[key] for n, e in runner.optim_wrapper.state_dict()['state'].items()},
        {n: e[key] for n, e in load(Path(file))['optimizer']['state'].items()},
    )


def test_the_command_refuses_in_one_line(trained, tmp_path):
    content = load(trained / 'run' / 'epoch_1.pth')
    for entry in content['optimizer']['state'].values():
        entry['exp_avg'] = torch.zeros(3)
    save_atomically(content, tmp_path / 'run' / 'epoch_1.pth')
    done = call_tool('train', trained / 'cl.py', '--work-dir', tmp_path / 'run', '--resume', *fresh_name())
    assert f'{tmp_path / "run" / "epoch_1.pth"} cannot be resumed: exp_avg of backbone.cls_token' in done.error()
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['epoch_1.pth']


# ---------------------------------------------------------------- code
def test_a_config_text_behind_a_shadowed_method_is_not_executed(trained, tmp_path):
    """An OrderedDict may bring attributes of its own; ``pop`` of this one is not a method."""
    content = load(trained / 'run' / 'epoch_1.pth')
    text = f'import os\nos.mkdir({str(tmp_path / "executed")!r})\n'
    for part, keys in ((content, ('meta',)), (content['message_hub'], ('runtime_info',))):
        for key in keys:
            hiding = OrderedDict(part[key])
            hiding['config'] = hiding['cfg'] = text
            hiding.__dict__.update(dict.fromkeys(('pop', 'get', 'keys', 'copy', 'update'), 1))
            part[key] = hiding
    torch.save(content, tmp_path / 'start.pth')
    options = ['--work-dir', tmp_path / 'run', '--resume', tmp_path / 'start.pth', *fresh_name()]
    done = call_tool('train', trained / 'cl.py', *options)
    assert done.code in (0, 1)
    assert not (tmp_path / 'executed').exists()
    if done.code == 0:
        written = load(tmp_path / 'run' / 'epoch_2.pth')
        assert 'executed' not in repr(written['meta']) + repr(written['message_hub']['runtime_info'])
        assert_same_run(tmp_path / 'run' / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth')


def test_a_checkpoint_names_no_files_elsewhere(trained, fresh):
    """mmengine's hook deletes the file under ``best_ckpt`` when there is a better one."""
    content = read_plain(str(trained / 'run' / 'epoch_1.pth'))
    content['message_hub']['runtime_info'].update(
        best_ckpt='/etc/best_a_epoch_1.pth', last_ckpt='../../x.pth', best_file='/a/best_b_epoch_1.pth'
    )
    content['message_hub']['log_scalars']['empty'] = [[], []]
    resume(fresh, 'some.pth', content)
    info = fresh.message_hub.runtime_info
    assert info['best_ckpt'] == f'{fresh.work_dir}/best_a_epoch_1.pth'
    assert info['last_ckpt'] == f'{fresh.work_dir}/x.pth'
    assert info['best_file'] == 'best_b_epoch_1.pth'
    assert 'empty' not in fresh.message_hub.log_scalars


def test_weights_to_start_from_need_no_meta_but_a_dict_if_any(trained, fresh):
    content = read_plain(str(trained / 'run' / 'epoch_1.pth'))
    load_weights(fresh, {'state_dict': content['state_dict']}, 'some.pth')
    with pytest.raises(CheckpointError, match='is damaged: its meta is a list'):
        load_weights(fresh, {**content, 'meta': [1, 2]}, 'some.pth')


# ---------------------------------------------------------------- which file
def copies(trained: Path, folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes((trained / 'run' / 'epoch_1.pth').read_bytes())


def test_the_newest_is_told_by_its_iteration(trained, tmp_path):
    copies(trained, tmp_path / 'run', 'epoch_2.pth', 'epoch_10.pth', 'epoch_9.pth', 'best_x_epoch_11.pth')
    for seconds, name in enumerate(('epoch_10.pth', 'epoch_9.pth', 'epoch_2.pth')):
        os.utime(tmp_path / 'run' / name, (seconds, seconds))
    assert latest_checkpoint(tmp_path / 'run') == str(tmp_path / 'run' / 'epoch_10.pth')
    # epoch_1.pth, of which all are copies, states two iterations per epoch
    copies(trained, tmp_path / 'mixed', 'epoch_3.pth', 'iter_5.pth')
    assert latest_checkpoint(tmp_path / 'mixed') == str(tmp_path / 'mixed' / 'epoch_3.pth')
    copies(trained, tmp_path / 'more', 'epoch_3.pth', 'iter_7.pth')
    assert latest_checkpoint(tmp_path / 'more') == str(tmp_path / 'more' / 'iter_7.pth')


def test_checkpoints_in_another_folder(trained, tmp_path):
    options = {'default_hooks': dict(checkpoint=dict(out_dir=str(tmp_path / 'scratch')))}
    path = write_config(tmp_path / 'cl.py', config(**options))
    copies(trained, tmp_path / 'scratch' / 'run', 'epoch_1.pth')
    done = call_tool('train', path, '--work-dir', tmp_path / 'run', '--resume', *fresh_name())
    assert done.code == 0, done.err
    assert_same_run(tmp_path / 'scratch' / 'run' / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth')


def test_a_damaged_newest_is_passed_over(trained, tmp_path):
    copies(trained, tmp_path / 'run', 'epoch_1.pth', 'epoch_2.pth')
    damaged = tmp_path / 'run' / 'epoch_2.pth'
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    done = call_tool('train', trained / 'cl.py', '--work-dir', tmp_path / 'run', '--resume', damaged, *fresh_name())
    assert f'checkpoint {damaged} is damaged' in done.error()
    done = call_tool('train', trained / 'cl.py', '--work-dir', tmp_path / 'run', '--resume', *fresh_name())
    assert done.code == 0, done.err
    (warning,) = (
        line for line in (done.out + done.err).splitlines() if 'Resuming from the previous readable one' in line
    )
    assert str(damaged) in warning
    assert str(tmp_path / 'run' / 'epoch_1.pth') in warning
    assert_same_run(damaged, trained / 'run' / 'epoch_2.pth')
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'epoch_1.pth').write_text('nothing')
    done = call_tool('train', trained / 'cl.py', '--work-dir', tmp_path / 'other', '--resume', *fresh_name())
    assert 'none of the 1 checkpoints' in done.error()


def test_weights_alone_are_refused(trained, tmp_path):
    state = load(trained / 'run' / 'epoch_1.pth')['state_dict']
    for number, content in enumerate(({'state_dict': state}, {'state_dict': state, 'meta': {'method': 'x'}}, state)):
        save_atomically(content, tmp_path / f'{number}.pth')
        options = ['--work-dir', tmp_path / 'run', '--resume', tmp_path / f'{number}.pth', *fresh_name()]
        message = call_tool('train', trained / 'cl.py', *options).error()
        assert 'not a checkpoint of a training run' in message
        assert 'model.graft=[dict(checkpoint=FILE)]' in message


def test_a_finished_run_is_left_alone(trained):
    before = {path: path.read_bytes() for path in (trained / 'run').rglob('*') if path.is_file()}
    done = call_tool('train', trained / 'cl.py', '--work-dir', trained / 'run', '--resume', *fresh_name())
    assert done.code == 0, done.err
    assert 'finished: 2 of 2 epochs, use --epochs for more' in done.out
    assert {path: path.read_bytes() for path in (trained / 'run').rglob('*') if path.is_file()} == before


@pytest.mark.parametrize(
    ('epoch', 'iteration', 'known'), [(2, 4, True), (0, 0, True), (3, 2, False), (2**60, 2**60, False), (-1, 4, False)]
)
def test_counters_that_cannot_be_do_not_tell_that_a_run_is_finished(epoch, iteration, known, tmp_path):
    torch.save({'meta': {'epoch': epoch, 'iter': iteration}}, tmp_path / 'file.pth')
    assert stored_counters_or_none(tmp_path / 'file.pth') == ((epoch, iteration) if known else None)


def test_a_finished_run_of_another_method_is_not_called_finished(trained, tmp_path):
    other = write_config(tmp_path / 'mim.py', tiny_config('mim', images=16))
    before = {path: path.read_bytes() for path in (trained / 'run').glob('*.pth')}
    message = call_tool('train', other, '--work-dir', trained / 'run', '--resume', *fresh_name()).error()
    assert 'model.type was ' in message
    assert {path: path.read_bytes() for path in (trained / 'run').glob('*.pth')} == before


def test_other_images_under_the_same_names_are_noticed(tmp_path):
    content = config()
    crop = [each for each in content['train_dataloader']['dataset']['pipeline'] if each['type'] != 'LoadImage']
    for name, shade in (('first', 60), ('moved', 60), ('other', 61)):
        (tmp_path / name).mkdir()
        for number in range(16):
            Image.new('L', (20, 20), shade + number).save(tmp_path / name / f'{number:02d}.png')
    pipeline = [dict(type='LoadImage', channels=1), *crop]
    content['train_dataloader']['dataset'] = dict(
        type='ImageFolder', data_root=str(tmp_path / 'first'), pipeline=pipeline
    )
    path, run = write_config(tmp_path / 'cl.py', content), ['--work-dir', tmp_path / 'run']
    assert call_tool('train', path, *run, *fresh_name()).code == 0
    file = str(tmp_path / 'run' / 'epoch_1.pth')
    for name in ('other', 'moved'):
        content['train_dataloader']['dataset']['data_root'] = str(tmp_path / name)
        runner = ready(write_config(tmp_path / f'{name}.py', content), tmp_path / f'run_{name}', name)
        if name == 'other':
            with pytest.raises(ConfigError, match=r'content of 16 images \(SHA-256\) was'):
                resume(runner, file, read_plain(file))
        else:
            resume(runner, file, read_plain(file))
            assert (runner.epoch, runner.iter) == (1, 2)


def test_a_run_whose_checkpoints_lie_elsewhere_is_not_begun_anew(tmp_path):
    content = config()
    content['default_hooks']['checkpoint']['out_dir'] = str(tmp_path / 'elsewhere')
    run = ['--work-dir', tmp_path / 'run']
    assert call_tool('train', write_config(tmp_path / 'a.py', content), *run, *fresh_name()).code == 0
    history = (tmp_path / 'run' / 'history.jsonl').read_bytes()
    del content['default_hooks']['checkpoint']['out_dir']
    path = write_config(tmp_path / 'b.py', content)
    message = call_tool('train', path, *run, '--resume', *fresh_name()).error()
    assert f'out_dir={tmp_path / "elsewhere"}' in message
    assert (tmp_path / 'run' / 'history.jsonl').read_bytes() == history
    assert not list((tmp_path / 'run').glob('*.pth'))
    message = call_tool('train', path, *run, '--resume', tmp_path, *fresh_name()).error()
    assert 'is a folder, expected a checkpoint' in message


# ---------------------------------------------------------------- another length, other settings
def rates(folder: Path) -> list[float]:
    return [json.loads(line)['lr'][0] for line in (folder / 'history.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('kind', ['ours', 'mmengine'])
def test_a_longer_run_follows_the_schedule_of_its_config(kind, tmp_path):
    of_mmengine = [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', T_max=1, begin=1, end=2, by_epoch=True, convert_to_iter_based=True),
    ]
    content = config(**({} if kind == 'ours' else {'param_scheduler': of_mmengine}))
    path, length = write_config(tmp_path / 'cl.py', content), ['--epochs', '4']
    whole = call_tool('train', path, '--work-dir', tmp_path / 'whole', *length, *fresh_name())
    assert whole.code == 0, whole.err
    assert call_tool('train', path, '--work-dir', tmp_path / 'run', *fresh_name()).code == 0
    done = call_tool('train', path, '--work-dir', tmp_path / 'run', '--resume', *length, *fresh_name())
    assert done.code == 0, done.err
    assert 'WARNING - the learning-rate schedule is that of this config, over 4 epochs' in done.out + done.err
    assert rates(tmp_path / 'run')[4:] == pytest.approx(rates(tmp_path / 'whole')[4:], rel=1e-12)
    states = [load(tmp_path / name / 'epoch_4.pth')['param_schedulers'] for name in ('run', 'whole')]
    for one, other in zip(*states):
        assert (one['last_step'], one['_global_step']) == (other['last_step'], other['_global_step'])


CHANGES = {
    'samples': (dict(train_dataloader=dict(dataset=dict(indices=24))), 'samples was 16, now it is 24'),
    'other samples': (
        dict(train_dataloader=dict(dataset=dict(indices=list(range(8, 24))))),
        r'sample list \(SHA-256\) was',
    ),
    'batch': (dict(train_dataloader=dict(batch_size=4)), 'images per process was 8, now it is 4'),
    'accumulation': (dict(optim_wrapper=dict(accumulative_counts=2)), 'accumulated micro-batches was 1, now it is 2'),
    'order': (dict(train_dataloader=dict(sampler=dict(shuffle=False))), 'sampler.shuffle was True, now it is False'),
    'temperature': (dict(model=dict(head=dict(temperature=0.5))), 'model.head.temperature was .*, now it is 0.5'),
    'mean': (
        dict(data_preprocessor=dict(mean=[1.0])),
        r'data preprocessor.mean\[0\] was 78.0, now it is 1.0',
    ),
    'clipping': (dict(optim_wrapper=dict(clip_grad=dict(max_norm=1.0))), 'clip_grad was None, now it is'),
    'rate': (dict(optim_wrapper=dict(optimizer=dict(lr=5e-3))), 'learning rates'),
    'schedule': (
        dict(param_scheduler=[dict(type='LinearLR', begin=0, end=2, by_epoch=True)]),
        r'schedule\[0\].type was .WarmupCosineLR., now it is .LinearLR.',
    ),
}


@pytest.mark.parametrize('kind', CHANGES)
def test_a_run_with_other_settings_is_refused(kind, trained, tmp_path):
    options, message = CHANGES[kind]
    path = write_config(tmp_path / 'cl.py', config(**options))
    runner, file = ready(path, tmp_path / 'run', kind), str(trained / 'run' / 'epoch_1.pth')
    before = everything(runner)
    with pytest.raises(ConfigError, match=message) as refused:
        resume(runner, file, read_plain(file))
    assert 'resume_anyway=True' in str(refused.value)
    assert_identical(everything(runner), before)
    older = read_plain(file)
    del older['meta']['run']
    if kind in ('order', 'other samples', 'rate', 'accumulation'):
        resume(runner, file, older)  # of a version that stored no settings
        assert runner.iter == 2


def test_an_older_file_states_its_batch(trained, fresh):
    older = read_plain(str(trained / 'run' / 'epoch_1.pth'))
    del older['meta']['run']
    older['meta']['batch'] = {'size': 8, 'processes': 2}
    with pytest.raises(ConfigError, match='processes was 2, now it is 1'):
        resume(fresh, 'older.pth', older)


def test_resume_anyway_starts_at_the_epoch_with_the_settings_of_the_config(trained, tmp_path):
    options = dict(train_dataloader=dict(batch_size=4), optim_wrapper=dict(optimizer=dict(lr=5e-3)))
    path = write_config(tmp_path / 'cl.py', config(resume_anyway=True, **options))
    runner, file = ready(path, tmp_path / 'run', 'anyway'), str(trained / 'run' / 'epoch_1.pth')
    resume(runner, file, read_plain(file))
    assert (runner.epoch, runner.iter) == (1, 4)  # four iterations per epoch now
    assert runner.optim_wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(5e-3)  # warm-up is over
    assert runner.param_schedulers[0].last_step == 4
    for name, value in load(Path(file))['state_dict'].items():
        assert torch.equal(runner.model.state_dict()[name], value)


@pytest.mark.parametrize(
    ('setting', 'values', 'updates'),
    [('train_dataloader.batch_size', (8, 4), (4, 8, 12)), ('optim_wrapper.accumulative_counts', (2, 1), (2, 4, 6))],
)
def test_a_run_with_an_average_resumes_plainly_after_resume_anyway(setting, values, updates, tmp_path):
    """Its average has another number of updates than its iterations and settings give."""
    path = write_config(tmp_path / 'cl.py', config(custom_hooks=[dict(type='WeightAverageHook', decay=0.9)]))
    run = ['train', path, '--work-dir', tmp_path / 'run']
    first, other = (['--cfg-options', f'{setting}={value}'] for value in values)
    for epochs, options in ((2, first), (3, [*other, 'resume_anyway=True', '--resume']), (4, [*other, '--resume'])):
        done = call_tool(*run, '--epochs', str(epochs), *options, *fresh_name())
        assert done.code == 0, done.err
        content = load(tmp_path / 'run' / f'epoch_{epochs}.pth')
        assert content['meta']['average_steps'] == content['ema_state_dict']['steps'] == updates[epochs - 2]


def test_another_option_and_resume_anyway(trained, tmp_path):
    """The fingerprint does not tell options; without ``resume_anyway`` both values are named."""
    file, options = str(trained / 'run' / 'epoch_1.pth'), dict(optim_wrapper=dict(optimizer=dict(weight_decay=0.3)))
    path = write_config(tmp_path / 'cl.py', config(**options))
    runner = ready(path, tmp_path / 'run', 'option')
    with pytest.raises(CheckpointError, match=r'weight_decay of parameter group \d was 0\.\d+, now it is 0\.3'):
        resume(runner, file, read_plain(file))
    runner = ready(write_config(tmp_path / 'any.py', config(resume_anyway=True, **options)), tmp_path / 'any', 'any')
    resume(runner, file, read_plain(file))
    assert 0.3 in {group['weight_decay'] for group in runner.optim_wrapper.optimizer.param_groups}
    assert runner.iter == 2
    for number, entry in load(Path(file))['optimizer']['state'].items():
        assert torch.equal(runner.optim_wrapper.state_dict()['state'][number]['exp_avg'], entry['exp_avg'])


SCHEDULES = {
    'momentum of Adam': dict(
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False),
            dict(type='CosineAnnealingLR', begin=3, end=4, by_epoch=False),
            dict(type='LinearMomentum', start_factor=0.5, begin=0, end=4, by_epoch=False),
        ]
    ),
    'weight decay': dict(
        param_scheduler=[
            dict(type='LinearParamScheduler', param_name='weight_decay', start_factor=0.5, end=4, by_epoch=False),
            dict(type='StepLR', step_size=1, by_epoch=True),
        ]
    ),
    'both units': dict(
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False),
            dict(type='MultiStepLR', milestones=[1], by_epoch=True),
        ]
    ),
    'restarts': dict(
        param_scheduler=[
            dict(type='CosineRestartLR', periods=[2, 2], restart_weights=[1, 1], eta_min=0, by_epoch=False)
        ]
    ),
    'one cycle': dict(
        param_scheduler=[dict(type='OneCycleLR', eta_max=0.01, total_steps=4, by_epoch=False, end=4)],
    ),
    'one linear cycle': dict(
        param_scheduler=[
            dict(type='OneCycleLR', eta_max=0.01, total_steps=4, end=4, anneal_strategy='linear', by_epoch=False)
        ],
    ),
    'polynomial': dict(param_scheduler=[dict(type='PolyLR', power=0.9, end=4, by_epoch=False)]),
    'no schedule': dict(param_scheduler=None),
    'scaled rates': dict(auto_scale_lr=dict(enable=True, base_batch_size=16)),
    'accumulated gradients': dict(optim_wrapper=dict(accumulative_counts=2)),
}


@pytest.mark.parametrize('kind', SCHEDULES)
def test_what_schedules_change_is_resumed(kind, tmp_path):
    path = write_config(tmp_path / 'cl.py', config(**SCHEDULES[kind]))
    assert call_tool('train', path, '--work-dir', tmp_path / 'whole', *fresh_name()).code == 0
    for older in (False, True):
        content = load(tmp_path / 'whole' / 'epoch_1.pth')
        if older:  # as versions before wrote it
            for key in ('run', 'optimizer_steps', 'optimizer_entries'):
                del content['meta'][key]
            if kind.startswith('one'):
                how = 'linear' if 'linear' in kind else 'cos'
                function = getattr(OneCycleParamScheduler, f'_annealing_{how}')
                content['param_schedulers'][0]['anneal_func'] = function
        folder = tmp_path / f'older {older}'
        save_atomically(content, folder / 'epoch_1.pth')
        done = call_tool('train', path, '--work-dir', folder, '--resume', *fresh_name())
        assert done.code == 0, done.err
        files = [load(each / 'epoch_2.pth') for each in (folder, tmp_path / 'whole')]
        for part in ('state_dict', 'optimizer', 'param_schedulers'):
            assert_identical(*(each.get(part) for each in files), part)


def test_a_pipeline_that_changed(trained, tmp_path):
    content = config()
    views = copy.deepcopy(content['train_dataloader']['dataset']['pipeline'])
    views[1]['view1'][0]['size'] = 8
    content['train_dataloader']['dataset']['pipeline'] = views
    file = str(trained / 'run' / 'epoch_1.pth')
    runner = ready(write_config(tmp_path / 'cl.py', content), tmp_path / 'run', 'pipeline')
    with pytest.raises(ConfigError, match=r'pipeline\[1\]\.view1\[0\]\.size was 16, now it is 8'):
        resume(runner, file, read_plain(file))
