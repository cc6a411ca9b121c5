"""The moving average of fine-tuning: its values, what is validated and tested, what a checkpoint holds, resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from test_tools.test_finetune import BACKBONE, EPOCHS, IMAGES, WIDTH, accuracy, finetune_config, tune
from test_tools.tiny_runs import assert_identical, call_tool, fresh_name, load, write_config
from tiny_finetuning import write_contrastive
from torch import nn

from mmselfsup_graft.engine import GraftRunner, WeightAverageHook
from mmselfsup_graft.engine.hooks.weight_average import RampedAverage
from mmselfsup_graft.engine.runners import ResumableEpochLoop
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS

LONG = 12
PER_EPOCH = IMAGES // 20
AVERAGE = dict(type='WeightAverageHook', decay=0.9, ramp_epochs=2, ramp_start=0.5)


# ---------------------------------------------------------------- values
def test_the_ramp_of_the_published_recipe() -> None:
    average = RampedAverage(nn.Linear(1, 1), decay=0.99996, ramp=20 * 1251, start=0.9)
    assert average.decay_at(0) == pytest.approx(0.9 * 0.99996)
    assert average.decay_at(10 * 1251) == pytest.approx(0.95 * 0.99996)
    assert average.decay_at(20 * 1251) == average.decay_at(10**6) == 0.99996
    assert RampedAverage(nn.Linear(1, 1), decay=0.9999).decay_at(0) == 0.9999


class Follow(Hook):
    """Averages the weights in double precision, by the definition."""

    priority = 'HIGHEST'  # before anything is exchanged for a validation

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        weights = {name: value.detach().double().clone() for name, value in runner.model.named_parameters()}
        if runner.iter == 0:
            self.average = weights
            return
        decay = 0.9 * (0.5 + 0.5 * min(1.0, runner.iter / (2 * PER_EPOCH)))
        self.average = {n: decay * self.average[n] + (1 - decay) * w for n, w in weights.items()}
        self.weights = weights


def _runner(content: dict[str, Any], folder: Path) -> GraftRunner:
    cfg = load_config(write_config(folder / 'tiny.py', content))
    cfg.work_dir, cfg.experiment_name = str(folder / 'run'), folder.name
    return GraftRunner.from_cfg(cfg)


def test_average_of_a_run(tmp_path: Path) -> None:
    runner, follow = _runner(finetune_config(custom_hooks=[AVERAGE]), tmp_path), Follow()
    runner.register_hook(follow)
    runner.train()
    saved = load(tmp_path / 'run' / f'epoch_{EPOCHS}.pth')
    for name, wanted in follow.average.items():
        assert torch.allclose(saved['state_dict'][name].double(), wanted, rtol=0, atol=1e-6), name
        trained = saved['ema_state_dict'][f'module.{name}']
        assert torch.equal(trained.double(), follow.weights[name]), name
        assert torch.equal(trained, runner.model.get_parameter(name)), 'training goes on with the weights themselves'
    moved = [n for n, w in follow.weights.items() if not torch.allclose(w, follow.average[n], atol=1e-4)]
    assert len(moved) > len(follow.weights) / 2, 'otherwise nothing was proved'


class Steps(Hook):
    """Averages what the optimizer's steps leave, by the definition, while two batches are accumulated."""

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.average: dict[str, torch.Tensor] = {}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter % 2:
            weights = {name: value.detach().double().clone() for name, value in runner.model.named_parameters()}
            before = self.average or weights
            self.average = {name: 0.9 * before[name] + 0.1 * weight for name, weight in weights.items()}


def test_average_while_batches_are_accumulated(tmp_path: Path) -> None:
    content = finetune_config(custom_hooks=[dict(type='WeightAverageHook', decay=0.9)])
    content['optim_wrapper']['accumulative_counts'] = 2
    runner, steps = _runner(content, tmp_path), Steps()
    runner.register_hook(steps)
    runner.train()
    assert EPOCHS * PER_EPOCH % 2 == 0
    saved = load(tmp_path / 'run' / f'epoch_{EPOCHS}.pth')['state_dict']
    for name, wanted in steps.average.items():
        assert torch.allclose(saved[name].double(), wanted, rtol=0, atol=1e-6), name


def test_buffers_are_copied_and_steps_of_the_optimizer_are_averaged(tmp_path: Path) -> None:
    content = finetune_config(channels=3, custom_hooks=[dict(type='WeightAverageHook', decay=0.9)])
    content['optim_wrapper']['accumulative_counts'] = 2
    head = {**content['model']['head'], 'in_channels': 32}
    backbone = dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4)
    content['model'].update(backbone=backbone, neck=dict(type='mmpretrain.GlobalAveragePooling'), head=head)
    runner = _runner(content, tmp_path)
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, WeightAverageHook))
    assert int(hook.ema_model.steps) == EPOCHS * PER_EPOCH // 2
    buffers = dict(runner.model.named_buffers())
    assert any(name.endswith('running_mean') for name in buffers)
    for name, value in hook.ema_model.module.named_buffers():
        assert torch.equal(value, buffers[name]), name


# ---------------------------------------------------------------- fine-tuning
@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with an average that lags far behind, and a checkpoint to start from."""
    place = tmp_path_factory.mktemp('average')
    content = finetune_config(custom_hooks=[dict(type='WeightAverageHook', decay=0.97)])
    content['param_scheduler'][0]['end'] = content['train_cfg']['max_epochs'] = LONG
    write_config(place / 'tiny.py', content)
    write_contrastive(BACKBONE, WIDTH, place / 'moco.pth')
    return place


@pytest.fixture(scope='module')
def tuned(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A finished run of the tool: its work directory and its row."""
    return folder / 'run', tune(folder / 'tiny.py', folder / 'moco.pth', folder / 'run')


def test_the_averaged_weights_are_chosen_and_tested(tuned: tuple[Path, dict], folder: Path) -> None:
    work_dir, row = tuned
    cfg = load_config(folder / 'tiny.py')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    (best,) = work_dir.glob('best_*.pth')
    last = load(work_dir / f'epoch_{LONG}.pth')
    averaged, trained = last['state_dict'], {k[7:]: v for k, v in last['ema_state_dict'].items() if k != 'steps'}
    result = row['result']
    assert result['accuracy'] == pytest.approx(accuracy(cfg, load(best)['state_dict'], dataset), abs=1e-4)
    assert result['selection_accuracy'] == pytest.approx(result['accuracy'], abs=1e-4)
    assert result['last_accuracy'] == pytest.approx(accuracy(cfg, averaged, dataset), abs=1e-4)
    assert accuracy(cfg, trained, dataset) != pytest.approx(result['last_accuracy'], abs=1e-4)
    settings = row['settings']
    assert settings['average'] == {'decay': 0.97, 'ramp_epochs': 0, 'ramp_start': 0.9}


def test_a_killed_run_resumes_to_the_same_bits(
    tuned: tuple[Path, dict], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_dir, row = tuned
    run_epoch = ResumableEpochLoop.run_epoch

    def stopping(loop: Any) -> None:
        if loop.epoch == LONG - 2:
            raise KeyboardInterrupt
        run_epoch(loop)

    start = (folder / 'tiny.py', folder / 'moco.pth', '--work-dir', tmp_path / 'run')
    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, 'run_epoch', stopping)
        assert call_tool('finetune', *start, *fresh_name()).code == 130
    again = tune(folder / 'tiny.py', folder / 'moco.pth', tmp_path / 'run', '--resume')
    assert again['result'] == row['result']
    for path in work_dir.glob('*.pth'):
        whole, resumed = load(path), load(tmp_path / 'run' / path.name)
        for part in ('state_dict', 'ema_state_dict'):
            assert_identical(resumed[part], whole[part], f'{path.name}: {part}')


@pytest.mark.parametrize(
    'options', [dict(decay=1.0), dict(decay=0.0), dict(ramp_start=1.1), dict(ramp_epochs=-1), dict(interval=0)]
)
def test_impossible_averages(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match='WeightAverageHook'):
        WeightAverageHook(**options)
