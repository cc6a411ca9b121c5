"""The learning rate follows the batch, and what gradient accumulation cannot give is said."""

import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import reference.swav
import torch
from helpers import build, mae_config, mlp_config, moco_config, tec_config, vit_config
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from test_tools.tiny_runs import tiny_config
from torch import nn

from mmselfsup_graft.engine import GraftRunner, LayerWiseLRConstructor
from mmselfsup_graft.engine.runners.batch_rules import Batch, lr_factor, micro_batch_note
from mmselfsup_graft.errors import ConfigError


@pytest.mark.parametrize(
    ('batch', 'options', 'expected'),
    [
        (Batch(64), {}, 0.25),
        (Batch(64, 4), {}, 1.0),
        (Batch(64, 4, 4), {}, 4.0),
        (Batch(64, 4, 4), {'rule': 'sqrt'}, 2.0),
        (Batch(64, 4, 4), {'rule': 'linear', 'enable': True}, 4.0),
        (Batch(64, 4, 2), {'accumulated': 2}, 1.0),
        (Batch(64, 4, 1), {'accumulated': 2}, 0.5),
    ],
)
def test_the_factor_counts_processes_and_micro_batches(batch: Batch, options: dict, expected: float) -> None:
    assert lr_factor(batch, {'base_batch_size': 256, **options}) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'base_batch_size': 256, 'rule': 'cubic'}, "auto_scale_lr.rule is 'cubic'; choose from linear, sqrt"),
        ({'base_batch_size': 0}, 'auto_scale_lr.base_batch_size must be a whole number > 0, got 0'),
        ({'base_batch_size': 256, 'accumulated': 0}, 'auto_scale_lr.accumulated must be a whole number > 0, got 0'),
        ({}, 'auto_scale_lr.base_batch_size must be a whole number > 0, got None'),
        ({'base_batch_size': True}, 'auto_scale_lr.base_batch_size must be a whole number > 0, got True'),
    ],
)
def test_bad_rules_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        lr_factor(Batch(8), options)
    assert str(error.value) == message


def test_a_batch_says_what_it_is_made_of() -> None:
    assert str(Batch(8)) == '8 images'
    assert str(Batch(8, 2, 4)) == '64 images (8 images x 2 processes x 4 micro-batches)'


def vicreg() -> dict[str, Any]:
    return dict(
        type='JointEmbedding',
        backbone=vit_config(),
        neck=mlp_config(16, 32, 8, 2),
        head=dict(type='VICRegHead'),
    )


@pytest.mark.parametrize(
    ('config', 'bound'),
    [
        (mae_config(), None),
        (tec_config(), None),
        (moco_config(), 'batch statistics and negatives'),
        (reference.swav.config(), 'batch statistics and codes'),
        (vicreg(), 'batch statistics and variance and covariance'),
    ],
)
def test_only_what_is_bound_to_a_micro_batch_is_warned_of(config: dict, bound: str | None) -> None:
    model = build(config)
    assert micro_batch_note(model, Batch(8, 2, 1)) is None
    note = micro_batch_note(model, Batch(8, 2, 4))
    assert (note is not None) == (bound is not None)
    if note is not None:
        assert f'over 4 micro-batches, and {bound} come from one micro-batch of 16 images' in note
        assert 'not training on 64 images at once' in note


def test_statistics_of_frozen_batch_norm_are_not_those_of_a_micro_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert 'batch statistics' in str(micro_batch_note(model, Batch(8, 1, 2)))
    model[1].eval()
    assert micro_batch_note(model, Batch(8, 1, 2)) is None


def test_what_is_frozen_counts_as_frozen_before_the_first_epoch() -> None:
    resnet = build(dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4, norm_eval=True))
    wrapper = OptimWrapper(torch.optim.SGD(resnet.parameters(), lr=0.1), accumulative_counts=2)
    loader, logger = SimpleNamespace(batch_size=8), Mock()
    assert resnet.bn1.training, 'as it was made'
    runner: Any = SimpleNamespace(model=resnet, train_dataloader=loader, world_size=1, logger=logger)
    GraftRunner.scale_lr(runner, wrapper)
    logger.warning.assert_not_called()


def after_training(folder: Any, caplog: Any, kind: str = 'cl', **options: Any) -> tuple[float, str]:
    """Largest learning rate of a run's first parameter group before its schedule, and what it warned of."""
    config = tiny_config(kind, images=16, epochs=1, param_scheduler=[], **options)
    config['param_scheduler'] = []
    cfg = Config.fromfile(config.pop('_base_')[0])
    cfg.merge_from_dict(config)
    cfg.work_dir, cfg.experiment_name = str(folder), f'{folder.name}_batch'
    with caplog.at_level(logging.INFO):
        runner = GraftRunner.from_cfg(cfg)
        runner.train()
    lines = (folder / runner.timestamp / f'{runner.timestamp}.log').read_text()
    return max(group['lr'] for group in runner.optim_wrapper.param_groups), lines


def test_a_run_scales_by_all_of_its_batch(tmp_path, caplog) -> None:
    accumulating = dict(accumulative_counts=2)
    rate, log = after_training(
        tmp_path, caplog, optim_wrapper=accumulating, auto_scale_lr=dict(base_batch_size=4, rule='sqrt', enable=True)
    )
    assert rate == pytest.approx(2e-3)
    assert 'batch of 16 images (8 images x 2 micro-batches): times 2 (sqrt rule)' in log
    assert 'negatives' in log
    assert 'is meant for a batch' not in log


def test_a_run_with_another_batch_says_so_and_trains_at_its_rate(tmp_path, caplog) -> None:
    rate, log = after_training(tmp_path, caplog, 'mim', auto_scale_lr=dict(base_batch_size=32))
    assert rate == pytest.approx(1e-3)
    assert 'the learning rate is meant for a batch of 32 images' in log
    assert '--auto-scale-lr would multiply it by 0.25' in log
    assert 'micro-batch' not in log


def test_accumulated_halves_are_the_whole_batch_for_mae() -> None:
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.rand(8, 16, generator=torch.Generator().manual_seed(2))
    states = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = build(mae_config()).double()
        model.init_weights()
        model.double().train()
        optimizer = dict(type='AdamW', lr=1e-2)
        config = dict(type='OptimWrapper', optimizer=optimizer, accumulative_counts=parts)
        wrapper: OptimWrapper = LayerWiseLRConstructor(config, dict(no_decay_1d=True))(model)
        wrapper.initialize_count_status(model, 0, 3 * parts)
        for _ in range(3):
            for part, its_noise in zip(images.chunk(parts), noise.chunk(parts)):
                wrapper.update_params(model.loss(part, noise=its_noise)['loss'])
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-9, atol=1e-9, msg=name)
