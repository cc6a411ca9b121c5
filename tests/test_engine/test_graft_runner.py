"""How the runner wraps a model for several processes, and how exactly matrices are multiplied."""

import os
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from helpers import build, mae_config, run_ranks, vit_config
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from yapf.yapflib.yapf_api import FormatCode

from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.runners.config_text import FormattedOnce
from mmselfsup_graft.engine.runners.graft_runner import matmul_precision
from mmselfsup_graft.engine.runners.model_steps import wrapper_options
from mmselfsup_graft.errors import ConfigError


def _wrapped(_rank: int, given: dict[str, Any]) -> dict[str, Any]:
    os.environ['LOCAL_RANK'] = '0'  # mmengine's runner reads it
    runner = object.__new__(GraftRunner)
    runner.cfg, runner._distributed = Config({}), True
    model = GraftRunner.wrap_model(runner, {'device_ids': None, **given}, nn.Linear(2, 2))
    options = ('gradient_as_bucket_view', 'find_unused_parameters', 'broadcast_buffers', 'static_graph')
    return {name: getattr(model, name) for name in options}


def test_options_of_ddp() -> None:
    expected = dict(
        gradient_as_bucket_view=True, find_unused_parameters=False, broadcast_buffers=False, static_graph=False
    )
    assert run_ranks(_wrapped, 1, {}) == [expected]
    own = dict(gradient_as_bucket_view=False, static_graph=True)
    assert run_ranks(_wrapped, 1, own) == [{**expected, **own}]


def _gradients(rank: int, options: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
    """Gradients of two steps of MAE, wrapped by the runner, for each of some ``model_wrapper_cfg``."""
    os.environ['LOCAL_RANK'] = str(rank)
    plain, found = build(mae_config(vit_config())), []
    plain.init_weights()
    images, noise = torch.randn(2, 2, 3, 16, 16)[rank], torch.rand(2, 2, 16)[rank]
    for given in options:
        runner: Any = object.__new__(GraftRunner)
        runner.cfg, runner._distributed, runner._train_loop = Config({}), True, None
        model = runner.wrap_model({'device_ids': None, **given}, deepcopy(plain))
        model.module.loss = partial(model.module.loss, noise=noise)
        for _ in range(2):
            model(images, mode='loss')['loss'].backward()
        found.append({name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None})
    return found


def test_gradients_of_two_processes_with_options_of_ddp() -> None:
    options = [{}, dict(static_graph=True), dict(gradient_dtype='bfloat16'), dict(gradient_dtype='float32')]
    ours, other = run_ranks(_gradients, 2, options)
    plain, static, half, full = ours
    for name, gradient in plain.items():
        assert all(torch.equal(mine[name], its[name]) for mine, its in zip(ours, other)), 'of both processes'
        assert torch.allclose(static[name], gradient, rtol=1e-5, atol=1e-7), name
        assert torch.equal(full[name], gradient), name
        assert half[name].dtype == torch.float32
        assert torch.allclose(half[name], gradient, rtol=3e-2, atol=1e-2 * gradient.abs().max().item()), name
    assert any(not torch.equal(half[name], gradient) for name, gradient in plain.items())


def test_another_precision_of_exchanged_gradients_is_refused() -> None:
    runner: Any = object.__new__(GraftRunner)
    runner.cfg, runner._distributed, runner._train_loop = Config({}), True, None
    with pytest.raises(ConfigError, match="gradient_dtype must be float32 or bfloat16, got 'float8'"):
        runner.wrap_model({'gradient_dtype': 'float8'}, nn.Linear(2, 2))


def test_another_wrapper_keeps_its_options() -> None:
    other = {'type': 'MMFullyShardedDataParallel', 'cpu_offload': False}
    assert wrapper_options(other, True) == other
    assert wrapper_options(None, True)['find_unused_parameters'] is True


@pytest.mark.parametrize(
    ('wrapper', 'on_gpu', 'precision'),
    [
        (dict(type='AutocastOptimWrapper', dtype='auto'), True, 'high'),
        (dict(type='mmselfsup_graft.AutocastOptimWrapper'), True, 'high'),
        (dict(type='AmpOptimWrapper'), True, 'high'),
        (dict(type='AutocastOptimWrapper', dtype='float32'), True, 'highest'),
        (dict(type='OptimWrapper'), True, 'highest'),
        (dict(type='AutocastOptimWrapper', dtype='auto'), False, 'highest'),
        ({}, True, 'highest'),
    ],
)
def test_precision_of_what_stays_in_float32(
    monkeypatch: pytest.MonkeyPatch, wrapper: dict[str, Any], on_gpu: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: on_gpu)
    assert matmul_precision({}, wrapper) == precision
    assert matmul_precision({'float32_matmul_precision': 'highest'}, wrapper) == 'highest'


def test_a_run_takes_no_precision_from_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, 'setup_env', lambda *_: None)
    before, runner = torch.get_float32_matmul_precision(), object.__new__(GraftRunner)
    runner.cfg = Config({})
    try:
        runner.setup_env({'float32_matmul_precision': 'high'})
        assert torch.get_float32_matmul_precision() == 'high'
        runner.setup_env({})
        assert torch.get_float32_matmul_precision() == 'highest'
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_precision_that_torch_does_not_know() -> None:
    with pytest.raises(ConfigError, match="'tf32'; choose from highest, high, medium"):
        matmul_precision({'float32_matmul_precision': 'tf32'}, {})


def test_the_text_of_a_config_is_formatted_when_it_changes():
    plain = Config(dict(a=1, b=dict(c=[2, 3])))
    cfg = FormattedOnce.of(plain)
    assert dict(cfg) == dict(plain)
    with mock.patch('yapf.yapflib.yapf_api.FormatCode', wraps=FormatCode) as formatting:
        assert [cfg.pretty_text, cfg.pretty_text, deepcopy(cfg).pretty_text] == 3 * [plain.pretty_text]
        assert formatting.call_count == 2  # ours and the plain one's
        cfg.b.c[0] = 4
        assert Config.fromstring(cfg.pretty_text, '.py').b.c == [4, 3]
        assert formatting.call_count == 3


def test_runs_of_one_process_write_into_their_own_folders(tmp_path: Path) -> None:
    """Configs of mmdet and mmseg give every visualizer the same name."""
    visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
    for name in ('first', 'second'):
        runner: Any = object.__new__(GraftRunner)
        runner._experiment_name, runner._log_dir = f'{name}_run', str(tmp_path / name)
        runner.build_visualizer(deepcopy(visualizer)).add_scalar('loss', 1.0)
    assert [path.parent.parent.name for path in sorted(tmp_path.rglob('scalars.json'))] == ['first', 'second']


def test_two_keys_for_recomputing_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match='activation_checkpointing=False and recompute=True differ'):
        GraftRunner.from_cfg(Config({'activation_checkpointing': False, 'recompute': True}))
