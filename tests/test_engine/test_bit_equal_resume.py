"""A run that is stopped anywhere, however roughly, and resumed ends with the very bits of one that was not."""

import json
import os
import random
import signal
from pathlib import Path

import pytest
from helpers import tec_config, write_base_model
from mmengine.config import Config
from mmengine.hooks import Hook
from reference import masked_tec, moco
from test_datasets.test_fast.images import COLORS, CROP, FLIP, USABLE, write_photos
from test_tools.tiny_runs import (
    Outcome,
    assert_same_run,
    call_tool,
    fresh_name,
    load,
    merged,
    run_tool_process,
    tiny_config,
    write_config,
)

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.resuming.latest import latest_checkpoint
from mmselfsup_graft.engine.train import load_config, set_epochs
from mmselfsup_graft.registry import HOOKS, MODELS

SCHEDULES = Path(__file__).parents[2] / 'configs' / '_base_' / 'schedules'
LENGTH = 12  # iterations of a run: 2 epochs of 6
SHORT = 8  # 2 epochs of 4
OFTEN = {'default_hooks': {'checkpoint': dict(by_epoch=False, interval=2)}}

# imported by the child processes: dies where the environment variable KILL says, e.g. 'iteration 7' or 'half 6'
KILLER = """
import os, signal
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import Hook
from mmselfsup_graft.registry import HOOKS

where, _, number = os.environ.get('KILL', 'nowhere 0').partition(' ')


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class DieAt(Hook):
    priority = 'HIGHEST'  # before the checkpoint of the same iteration is written

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if where == 'iteration' and runner.iter + 1 == int(number):
            die()


def put(self, content, path):
    with open(path, 'wb') as file:
        if where == 'half' and f'iter_{number}.pth' in str(path):
            file.write(content[:len(content) // 2])
            file.flush()
            die()
        file.write(content)


LocalBackend.put = put
replace = os.replace


def replace_or_die(source, target, **options):
    if where == 'unnamed' and str(target).endswith(f'iter_{number}.pth'):
        die()
    replace(source, target, **options)
    if where == 'named' and str(target).endswith(f'iter_{number}.pth'):
        die()


os.replace = replace_or_die
"""


@pytest.fixture(scope='module')
def grafted(tmp_path_factory) -> dict:
    """Config of Layer Grafted Pre-training from a fresh MAE's checkpoint, held near it by the L1 term."""
    folder = tmp_path_factory.mktemp('resume')
    mae = MODELS.build({**tiny_config('mim')['model'], 'data_preprocessor': tiny_config()['data_preprocessor']})
    mae.init_weights()
    save_atomically({'model': mae.state_dict()}, folder / 'mae.pth')
    graft = dict(graft=[dict(checkpoint=str(folder / 'mae.pth'))], l1_distance=dict(weight=1e-3, to_block=2))
    return tiny_config('lgp', model=graft, **OFTEN)


def last(folder: Path) -> Path:
    return folder / f'iter_{LENGTH}.pth'


@pytest.mark.slow
def test_killed_processes_resume_to_the_same_bits(grafted, tmp_path):
    (tmp_path / 'killer.py').write_text(KILLER)
    killable = {'custom_imports': dict(imports=['killer']), 'custom_hooks': [dict(type='DieAt')]}
    config = write_config(tmp_path / 'lgp.py', merged(grafted, killable))
    path = f'{Path(__file__).parents[2]}{os.pathsep}{tmp_path}'

    def train(folder: Path, kill: str = '', *options: str) -> Outcome:
        return run_tool_process('train', config, '--work-dir', folder, *options, PYTHONPATH=path, KILL=kill or '- 0')

    def killed(kill: str, *options: str) -> list[str]:
        done = train(tmp_path / 'killed', kill, *options)
        assert done.code == -signal.SIGKILL, f'{kill}: {done.err[-2000:]}'
        return sorted(file.name for file in (tmp_path / 'killed').glob('*.pth'))

    assert train(tmp_path / 'whole').code == 0
    early = random.Random(1).randint(3, 6)
    files = killed(f'iteration {early}')
    assert files == [f'iter_{n}.pth' for n in range(2, early, 2)]
    before = (tmp_path / 'killed' / files[-1]).read_bytes()

    # in the middle of writing: the file before it is as it was, and nothing but whole files looks like a checkpoint
    assert killed('half 6', '--resume')[-1] == 'iter_4.pth'
    (unfinished,) = (tmp_path / 'killed').glob('.iter_6.pth.*.tmp')
    assert unfinished.stat().st_size < len(before)
    if files[-1] == 'iter_4.pth':
        assert (tmp_path / 'killed' / 'iter_4.pth').read_bytes() == before
    assert latest_checkpoint(tmp_path / 'killed') == str(tmp_path / 'killed' / 'iter_4.pth')
    for file in (tmp_path / 'killed').glob('*.pth'):
        assert load(file)['state_dict'].keys() == load(last(tmp_path / 'whole'))['state_dict'].keys()

    assert killed('named 8', '--resume')[-1] == 'iter_8.pth'  # mmengine's note still names the one before
    assert (tmp_path / 'killed' / 'last_checkpoint').read_text().endswith('iter_6.pth')
    done = train(tmp_path / 'killed', '', '--resume')
    assert done.code == 0, done.err[-2000:]
    assert_same_run(last(tmp_path / 'killed'), last(tmp_path / 'whole'))
    assert not list((tmp_path / 'killed').glob('.*.tmp'))
    histories = [(tmp_path / name / 'history.jsonl').read_text() for name in ('killed', 'whole')]
    assert histories[0] == histories[1]
    assert [json.loads(line)['iter'] for line in histories[0].splitlines()] == list(range(LENGTH))


# ---------------------------------------------------------------- in this process
class Stop(Exception):
    """Stands for the end of the process."""


@HOOKS.register_module()
class StopAt(Hook):
    """Raise in the middle of an iteration: after the optimizer's step, before anything is written."""

    priority = 'HIGHEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            raise Stop


def train_here(config: Path, folder: Path, stop: int | None = None, resume: bool = False) -> GraftRunner:
    cfg = load_config(config)
    cfg.work_dir, cfg.resume = str(folder), resume
    cfg.experiment_name = f'{folder.name}_{stop}_{id(cfg)}'
    if stop is not None:
        cfg.custom_hooks = [dict(type='StopAt', iteration=stop)]
    runner = GraftRunner.from_cfg(cfg)
    runner.train()
    return runner


SIMMIM = {
    'type': 'SimMIM',
    'mask_patch': 4,
    'backbone': dict(type='MaskedResNetCIFAR', depth=18, in_channels=1, stem_channels=4, base_channels=4),
    'neck': dict(type='PixelShuffleNeck', in_channels=32, stride=8, out_channels=1),
    'head': dict(type='SimMIMHead'),
}
A2MIM = {
    **SIMMIM,
    'type': 'A2MIM',
    'backbone': dict(**SIMMIM['backbone'], mask_layer=2, mask_replace=False, mask_gain=1e-6),
    'head': dict(type='A2MIMHead', mode='focal_l1', fft_weight=0.5),
}


def check_resumed(config, folder) -> None:
    """A run of 8 iterations that is stopped after 5 and resumed equals one that is not."""
    train_here(config, folder / 'whole')
    with pytest.raises(Stop):
        train_here(config, folder / 'stopped', 5)
    train_here(config, folder / 'stopped', resume=True)
    assert_same_run(folder / 'stopped' / 'iter_8.pth', folder / 'whole' / 'iter_8.pth')


@pytest.mark.parametrize(
    ('kind', 'interval', 'stops'),
    [
        ('lgp', 2, (1, 3, 4, 5, 8)),  # nothing saved; within, at the end and at the begin of an epoch; the last
        ('mim', 3, (2, 7)),
        ('simmim', 3, (5,)),
        ('a2mim', 3, (5,)),
        ('tec', 3, (4,)),
        ('masked_tec', 3, (4,)),
        ('swav', 1, tuple(range(2, SHORT + 1))),  # prototypes, queue and counters at every iteration
    ],
)
def test_stopped_and_resumed_ends_with_the_same_bits(kind, interval, stops, grafted, tmp_path, quick):
    content = grafted if kind == 'lgp' else tiny_config('swav' if kind == 'swav' else 'mim')
    if kind in ('simmim', 'a2mim'):
        content = {**content, 'model': SIMMIM if kind == 'simmim' else A2MIM}
    if kind in ('tec', 'masked_tec'):
        vit = content['model']['backbone']
        content['model'] = tec_config(vit) if kind == 'tec' else masked_tec.config(SIMMIM['backbone'])
        content['model']['base_checkpoint'] = write_base_model(content['model'], tmp_path / 'base.pth')
    less = {'train_dataloader': {'dataset': dict(indices=4 * SHORT)}}
    content = merged(content, {**less, 'default_hooks': {'checkpoint': dict(by_epoch=False, interval=interval)}})
    config = write_config(tmp_path / f'{kind}.py', content)
    train_here(config, tmp_path / 'whole')
    for stop in stops:
        folder = tmp_path / f'stopped_{stop}'
        with pytest.raises(Stop):
            train_here(config, folder, stop)
        newest = latest_checkpoint(folder)
        first = (stop - 1) // interval * interval
        assert newest == (str(folder / f'iter_{first}.pth') if first else None)
        runner = train_here(config, folder, resume=True)
        assert runner.iter == SHORT
        assert_same_run(folder / f'iter_{SHORT}.pth', tmp_path / 'whole' / f'iter_{SHORT}.pth')
        assert (folder / 'history.jsonl').read_text() == (tmp_path / 'whole' / 'history.jsonl').read_text()


@pytest.mark.parametrize('accumulated', [1, 2])
def test_the_queue_and_its_permutations_are_resumed(accumulated, tmp_path, quick):
    """MoCo, whose images change groups in every step, stopped within an epoch after its queue was full."""
    model = moco.resnet(bn_groups=2, queue_size=24, temperature=0.3)
    model['backbone']['in_channels'] = 1
    content = {**tiny_config('cl', images=4 * SHORT), 'model': model}
    content['param_scheduler'] = [dict(type='WarmupCosineLR', warmup=0, by_epoch=True)]
    content['optim_wrapper'] = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True),
        accumulative_counts=accumulated,
    )
    momentum = dict(type='MomentumScheduleHook', cosine=False)
    checkpoint = dict(by_epoch=False, interval=4 - accumulated)  # never within a step
    content['default_hooks'] |= {'checkpoint': checkpoint, 'momentum': momentum}
    content['auto_scale_lr']['accumulated'] = accumulated
    check_resumed(write_config(tmp_path / 'moco.py', content), tmp_path)
    state = load(tmp_path / 'whole' / 'iter_8.pth')['state_dict']
    assert state['key_queue.queue_ptr'].tolist() == [SHORT * 8 % 24]
    rows = [json.loads(line) for line in (tmp_path / 'whole' / 'history.jsonl').read_text().splitlines()]
    assert [row['lr'][0] for row in rows] == pytest.approx([0.1] * 4 + [0.05] * 4)
    other = write_config(tmp_path / 'other.py', {**content, 'randomness': dict(seed=1)})
    train_here(other, tmp_path / 'other')
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / 'other' / 'iter_8.pth', tmp_path / 'whole' / 'iter_8.pth')


@pytest.mark.parametrize('mode', USABLE)
def test_augmentations_of_compiled_pipelines_go_on(mode, tmp_path, quick):
    """Stopped within an epoch; without the augmentations the weights would differ, with others too."""
    pipeline = [dict(type='LoadImage'), {**CROP, 'size': 16}, *COLORS, FLIP, dict(type='mmpretrain.PackInputs')]
    data = dict(type='ImageFolder', data_root=str(write_photos(tmp_path / 'photos', 8)), pipeline=pipeline, fast=mode)
    content = tiny_config('mim', batch=2)
    content['model'] = merged(content['model'], dict(backbone=dict(in_channels=3), head=dict(in_channels=3)))
    content['model']['neck']['in_chans'] = 3
    content['data_preprocessor'] = dict(type='SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
    content['train_dataloader']['dataset'] = data
    content['default_hooks']['checkpoint'] = dict(by_epoch=False, interval=3)
    config = write_config(tmp_path / 'fast.py', content)
    check_resumed(config, tmp_path)
    plain = write_config(tmp_path / 'plain.py', merged(content, {'train_dataloader': {'dataset': dict(fast=False)}}))
    train_here(plain, tmp_path / 'plain')
    losses = [
        [json.loads(line)['loss'] for line in (tmp_path / name / 'history.jsonl').read_text().splitlines()]
        for name in ('whole', 'plain')
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # the same images but for a few levels
    assert losses[0] != losses[1]


def test_gathered_batches_are_resumed(tmp_path, quick):
    """Images in memory, with affine maps and noise that wait for the device; losses are those of the PIL pipeline."""
    view = [
        dict(type='mmpretrain.torchvision/RandomAffine', degrees=20, shear=(-9, 9, -4, 4), interpolation='bilinear'),
        dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.3),
        dict(type='PILGaussianNoise', std=0.1, p=0.8),
    ]
    steps = [dict(type='LoadImage', channels=1), dict(type='TwoViews', view1=view), dict(type='mmpretrain.PackInputs')]
    content = tiny_config('cl', images=8, batch=2)
    content['data_preprocessor']['type'] = 'SelfSupDataPreprocessor'
    loader = content['train_dataloader']
    loader['dataset'] = {**loader['dataset'], 'pipeline': steps, 'fast': 'device'}
    loader['collate_fn'] = dict(type='mmselfsup_graft.collate')
    content['default_hooks']['checkpoint'] = dict(by_epoch=False, interval=3)
    config = write_config(tmp_path / 'gathered.py', content)
    check_resumed(config, tmp_path)
    for name, options in (
        ('sample by sample', dict(collate_fn=dict(type='default_collate'))),
        ('workers', dict(num_workers=2)),
    ):
        other = write_config(tmp_path / f'{name[:3]}.py', merged(content, {'train_dataloader': options}))
        train_here(other, tmp_path / name)
        assert_same_run(tmp_path / name / 'iter_8.pth', tmp_path / 'whole' / 'iter_8.pth')
    plain = write_config(tmp_path / 'plain.py', merged(content, {'train_dataloader': {'dataset': dict(fast=False)}}))
    train_here(plain, tmp_path / 'plain')
    first = [
        json.loads((tmp_path / name / 'history.jsonl').read_text().splitlines()[0])['loss']
        for name in ('whole', 'plain')
    ]
    assert first[0] == pytest.approx(first[1], rel=0.02)  # later ones drift apart: batch norm sees two images


def test_warm_up_and_steps_of_mmengine_resume_to_the_same_bits(tmp_path, quick):
    """The schedule of A2MIM's ViTs, which multiplies rates from one iteration to the next."""
    schedules = Config.fromfile(str(SCHEDULES / 'a2mim_adamw_vit_800e.py')).param_scheduler
    content = tiny_config('mim', epochs=800, param_scheduler=schedules)
    content['train_dataloader']['dataset']['indices'] = 16
    content['default_hooks']['checkpoint'] = dict(by_epoch=False, interval=3)
    config = write_config(tmp_path / 'step.py', content)

    def train(folder, stop=None, resume=False):
        cfg = load_config(config)
        set_epochs(cfg, 8)
        assert [cfg.param_scheduler[0].end, *cfg.param_scheduler[1].milestones] == [1, 7]
        cfg.work_dir, cfg.resume, cfg.experiment_name = str(tmp_path / folder), resume, f'{folder}_{resume}'
        cfg.custom_hooks = [dict(type='StopAt', iteration=stop)] if stop else []
        GraftRunner.from_cfg(cfg).train()
        return [json.loads(line)['lr'] for line in (tmp_path / folder / 'history.jsonl').read_text().splitlines()]

    rates = train('whole')
    assert [rate[0] for rate in rates] == pytest.approx([2e-9, *13 * [1e-3], *2 * [1e-4]])
    for stop in (2, 14):
        with pytest.raises(Stop):
            train(f'stopped_{stop}', stop)
        assert train(f'stopped_{stop}', resume=True) == rates
        assert_same_run(tmp_path / f'stopped_{stop}' / 'iter_16.pth', tmp_path / 'whole' / 'iter_16.pth')


def test_epoch_checkpoints_resume_to_the_same_bits(grafted, tmp_path, quick):
    content = {**grafted, 'default_hooks': {**grafted['default_hooks'], 'checkpoint': dict(interval=1)}}
    config = write_config(tmp_path / 'lgp.py', content)
    train_here(config, tmp_path / 'whole')
    with pytest.raises(Stop):
        train_here(config, tmp_path / 'stopped', stop=9)
    assert latest_checkpoint(tmp_path / 'stopped') == str(tmp_path / 'stopped' / 'epoch_1.pth')
    train_here(config, tmp_path / 'stopped', resume=True)
    assert_same_run(tmp_path / 'stopped' / 'epoch_2.pth', tmp_path / 'whole' / 'epoch_2.pth')


def test_the_seed_decides_the_weights(tmp_path, quick):
    """Otherwise the comparisons above would hold for runs in which nothing is random."""
    first = write_config(tmp_path / 'first.py', tiny_config('cl', epochs=2))
    second = write_config(tmp_path / 'second.py', tiny_config('cl', epochs=2, randomness=dict(seed=1)))
    for config in (first, second):
        train_here(config, tmp_path / config.stem)
    files = [tmp_path / name / 'epoch_2.pth' for name in ('first', 'second')]
    with pytest.raises(AssertionError):
        assert_same_run(*files)


def test_resuming_needs_the_same_batch_size(grafted, tmp_path, quick):
    config = write_config(tmp_path / 'lgp.py', grafted)
    with pytest.raises(Stop):
        train_here(config, tmp_path / 'run', stop=6)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'run').glob('*.pth')}
    for size in (4, 16):
        changed = write_config(tmp_path / 'changed.py', merged(grafted, {'train_dataloader': dict(batch_size=size)}))
        done = call_tool('train', changed, '--work-dir', tmp_path / 'run', '--resume', *fresh_name())
        assert f'images per process was 8, now it is {size}' in done.error()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'run').glob('*.pth')} == before


def test_resume_starts_from_the_file_that_is_named(grafted, tmp_path, quick):
    config = write_config(
        tmp_path / 'lgp.py', merged(grafted, {'default_hooks': {'checkpoint': dict(max_keep_ckpts=-1)}})
    )
    train_here(config, tmp_path / 'whole')
    start = tmp_path / 'whole' / 'iter_4.pth'
    done = call_tool('train', config, '--work-dir', tmp_path / 'other', '--resume', start, *fresh_name())
    assert done.code == 0, done.err
    assert_same_run(last(tmp_path / 'other'), last(tmp_path / 'whole'))
    rows = [json.loads(line) for line in (tmp_path / 'other' / 'history.jsonl').read_text().splitlines()]
    assert [row['iter'] for row in rows] == list(range(4, LENGTH))
