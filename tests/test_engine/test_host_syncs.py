"""Between two logged steps the host reads no tensor; what is logged is what mmengine would log."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, mae_config, tec_config, vit_config
from mmengine.logging import MessageHub
from test_tools.tiny_runs import DEPTH, merged, tiny_config, write_config

from mmselfsup_graft.analysis import HostReads
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import DeferredMessageHub, GraftRunner, device_scalars
from mmselfsup_graft.engine.device_scalars import read_scalars
from mmselfsup_graft.engine.runners import ResumableEpochLoop
from mmselfsup_graft.engine.train import load_config

LOGGED = 4  # iterations between two lines of log and history
BACKBONE = vit_config(depth=DEPTH, in_channels=1, drop_path_rate=0.2)
CIFAR = dict(type='MaskedResNetCIFAR', in_channels=1, strides=(1, 2, 2, 1), depth=18, stem_channels=4, base_channels=4)
BFLOAT16 = dict(
    type='AutocastOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-3),
    constructor='LayerWiseLRConstructor',
    clip_grad=dict(max_norm=1.0),
)
CLIPPED = dict(optim_wrapper=dict(clip_grad=dict(max_norm=0.05)))


def masked(kind: str, head: dict[str, Any], backbone: dict[str, Any], width: int) -> dict[str, Any]:
    neck = dict(type='PixelShuffleNeck', in_channels=width, stride=4, out_channels=1)
    return dict(type=kind, mask_patch=4, backbone=backbone, neck=neck, head=head)


VIT = {**BACKBONE, 'type': 'MaskedViT', 'out_type': 'featmap'}
MODELS: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    'MAE': ('mim', None, {}),
    'MoCoV3': ('lgp', None, {}),
    'MoCoV3 with LARS': ('cl', None, dict(optim_wrapper=dict(optimizer=dict(type='LARS', lr=0.1, weight_decay=1e-6)))),
    'MoCoV3 in bfloat16': ('cl', None, dict(optim_wrapper=BFLOAT16)),
    'MAE and MoCoV3': ('multi', None, {}),
    'SimMIM': ('mim', masked('SimMIM', dict(type='SimMIMHead'), VIT, 16), {}),
    'A2MIM, clipped': ('mim', masked('A2MIM', dict(type='A2MIMHead', fft_weight=0.1), CIFAR, 32), CLIPPED),
    'SwAV': ('swav', None, {}),
    'TEC': ('mim', tec_config(BACKBONE, checkpoint='base.pth'), {}),
}


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any]) -> tuple[Any, list]:
    """Train for two epochs of 6 steps; the runner, and what the host read in every step."""
    content = merged(
        tiny_config(kind),
        {
            'default_hooks': dict(
                logger=dict(interval=LOGGED, ignore_last=True), history=dict(interval=LOGGED, seconds=0.0)
            ),
            **options,
        },
    )
    cfg = load_config(write_config(folder / 'tiny.py', content))
    cfg.work_dir, cfg.experiment_name = str(folder / 'run'), str(folder).replace('/', '_')
    if 'base_checkpoint' in cfg.model:
        cfg.model.base_checkpoint = str(folder / 'base.pth')
        save_atomically({'state_dict': build(mae_config(BACKBONE)).state_dict()}, folder / 'base.pth')
    seen, run_iter = [], ResumableEpochLoop.run_iter

    def watched(loop: Any, *args: Any) -> None:
        with HostReads() as reads:
            run_iter(loop, *args)
        # data sets count their unreadable files in shared memory of the host: no device is asked
        seen.append([read for read in reads.found if '/datasets/' not in read])

    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, 'run_iter', watched)
        runner = GraftRunner.from_cfg(cfg)
        runner.train()
    return runner, seen


@pytest.mark.parametrize('name', MODELS)
def test_a_step_that_logs_nothing_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind, model, options = MODELS[name]
    _, seen = run(tmp_path, monkeypatch, kind, {**options, **({'model': model} if model else {})})
    assert len(seen) == 12
    # the log counts within an epoch, the history and the end of the run over all
    logged = {3, 9} | {3, 7, 11}
    for step, reads in enumerate(seen):
        if step in logged:
            assert any('device_scalars.py' in read for read in reads), f'step {step}: the counter sees a read'
        else:
            assert reads == [], f'step {step}'


def test_the_average_of_fine_tuning_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(custom_hooks=[dict(type='WeightAverageHook', decay=0.9, ramp_epochs=1)])
    _, seen = run(tmp_path, monkeypatch, 'mim', options)
    assert [step for step, reads in enumerate(seen) if reads] == [3, 7, 9, 11]


# ---------------------------------------------------------------- values
def test_logged_values_are_those_of_mmengine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place in ('deferred', 'plain'):
        with monkeypatch.context() as patch:
            if place == 'plain':
                patch.setattr(GraftRunner, 'build_message_hub', super(GraftRunner, GraftRunner).build_message_hub)
            runner, _ = run(tmp_path / place, monkeypatch, 'lgp', CLIPPED)
        assert (type(runner.message_hub) is MessageHub) == (place == 'plain')
        (log,) = (tmp_path / place).rglob('vis_data/scalars.json')
        rows = [json.loads(line) for line in log.open()]
        timing = ('time', 'data_time')
        rows = [[(key, value) for key, value in row.items() if key not in timing] for row in rows]
        history = (tmp_path / place / 'run' / 'history.jsonl').read_text()
        scalars = torch.load(tmp_path / place / 'run' / 'epoch_2.pth', weights_only=True)['message_hub']['log_scalars']
        found.append((rows, history, {name: scalars[name] for name in scalars if not name.endswith('time')}))
    assert found[0] == found[1]
    assert {'lr', 'grad_norm', 'loss'} <= dict(found[0][0][0]).keys()
    assert len(found[0][2]['train/loss'][0]) == len(found[0][2]['train/grad_norm'][0]) == 12


def test_histories_keep_names_and_values_in_their_order() -> None:
    hubs = [DeferredMessageHub('deferred'), MessageHub('plain')]
    values = [torch.tensor(0.1), 0.5, torch.tensor([3.0], dtype=torch.float64), torch.tensor(7), torch.tensor(0.3)]
    for hub in hubs:
        for number, value in enumerate(values):
            hub.update_scalar('train/b', value)
            hub.update_scalar('train/a', 2.0 * value, count=2)
            assert hub.get_scalar('train/b').current() == float(value), number
    ours, theirs = (hub.state_dict()['log_scalars'] for hub in hubs)
    assert list(ours) == list(theirs)
    for name in ours:
        assert [column.tolist() for column in ours[name].data] == [column.tolist() for column in theirs[name].data]


def test_nothing_is_kept_on_the_device_without_end() -> None:
    hub = DeferredMessageHub('endless')
    for number in range(2500):
        hub.update_scalar('train/loss', torch.tensor(float(number)))
    assert sum(map(len, hub._pending.values())) == 500
    assert hub.get_scalar('train/loss').data[0].tolist() == list(map(float, range(2500)))
    with pytest.raises(KeyError, match='nothing'):
        hub.get_scalar('train/nothing')


def test_a_read_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = DeferredMessageHub('failing')
    hub.update_scalar('train/loss', torch.tensor(0.5))
    with monkeypatch.context() as patch:
        patch.setattr(device_scalars, '_read', lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hub.flush()
    assert hub.get_scalar('train/loss').data[0].tolist() == [0.5]


def test_reading_several_scalars() -> None:
    values = {'a': torch.tensor(0.1), 'b': 0.1, 'c': torch.tensor([2]), 'd': torch.tensor(0.1, dtype=torch.float64)}
    assert read_scalars(values) == {'a': torch.tensor(0.1).item(), 'b': 0.1, 'c': 2.0, 'd': 0.1}
    assert read_scalars({}) == {}
