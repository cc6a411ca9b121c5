"""Reading configs: overrides that reach into grafts, protocols and precision."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mmselfsup_graft.engine.train import enable_amp, enable_auto_scale_lr, load_config, prepare_distributed, set_epochs
from mmselfsup_graft.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
GRAFTED = ROOT / 'configs/layer_grafted/layer-grafted_vit-micro-p4_1xb64-coslr-75e_digits-16px.py'
MAE = ROOT / 'configs/mae/mae_vit-micro-p4_1xb64-coslr-210e_digits-16px.py'


def test_fields_of_a_graft_and_of_a_protocol_may_be_new() -> None:
    options = {'model.graft.0.layers': (0, 4), 'evaluation.knn.temperature': [0.1], 'evaluation.few_shot.seed': 3}
    cfg = load_config(GRAFTED, options)
    assert tuple(cfg.model.graft[0].layers) == (0, 4)
    assert (cfg.evaluation.knn.temperature, cfg.evaluation.few_shot.seed) == ([0.1], 3)


@pytest.mark.parametrize(
    ('option', 'hint'),
    [
        ('model.graft.0.layer', 'layers'),
        ('model.graft.0.chekpoint', 'checkpoint'),
        ('evaluation.knn.temprature', 'temperature'),
        ('evaluation.few_shots', 'few_shot'),
    ],
)
def test_misspelled_ones_are_refused_with_a_suggestion(option: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{hint}'"):
        load_config(GRAFTED, {option: 1})


def test_a_later_option_reaches_into_an_earlier_one() -> None:
    options = {'param_scheduler': [dict(type='WarmupCosineLR', warmup=1, end=5)], 'param_scheduler.0.end': 7}
    assert load_config(MAE, options).param_scheduler[0].end == 7


def test_an_option_of_a_class_that_an_override_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'imported_by_an_override.py').write_text(
        'from mmselfsup_graft.models import SelfSupViT\n'
        'from mmselfsup_graft.registry import MODELS\n'
        '@MODELS.register_module()\n'
        'class ImportedViT(SelfSupViT):\n'
        '    def __init__(self, extra=1, **kwargs):\n'
        '        super().__init__(**kwargs)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = {'model.backbone.extra': 2, 'model.backbone.type': 'ImportedViT'}
    with pytest.raises(ConfigError, match=r"'model\.backbone\.extra'"):
        load_config(GRAFTED, options)
    cfg = load_config(GRAFTED, {**options, 'custom_imports.imports': ['imported_by_an_override']})
    assert (cfg.model.backbone.type, cfg.model.backbone.extra) == ('ImportedViT', 2)


@pytest.mark.parametrize(
    'value', ['foo', 3, ['os'], {}, {'import': ['os']}, {'imports': ['']}, {'imports': ['os'], 'x': 1}]
)
def test_imports_that_are_none(value: Any) -> None:
    with pytest.raises(ConfigError, match=r'^custom_imports'):
        load_config(MAE, {'custom_imports': value})


def test_missing_and_broken_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'nowhere\.py does not exist'):
        load_config(tmp_path / 'nowhere.py')
    broken = tmp_path / 'broken.py'
    broken.write_text('model = dict(')
    with pytest.raises(ConfigError, match=r'broken\.py cannot be read: SyntaxError'):
        load_config(broken)


def test_switches() -> None:
    cfg = load_config(MAE)
    enable_amp(cfg)
    enable_auto_scale_lr(cfg)
    assert cfg.optim_wrapper.type == 'AutocastOptimWrapper'
    assert cfg.auto_scale_lr.enable is True
    cfg.optim_wrapper.type = 'OptimWrapperDict'
    with pytest.raises(ConfigError, match='OptimWrapperDict'):
        enable_amp(cfg)
    cfg.auto_scale_lr = {}
    with pytest.raises(ConfigError, match='base_batch_size'):
        enable_auto_scale_lr(cfg)


@pytest.mark.parametrize(
    ('epochs', 'warm_up', 'milestones'),
    [(1600, 20, [1400]), (800, 10, [700]), (80, 1, [70]), (40, 1, [35]), (1, 1, [1])],
)
def test_a_warm_up_of_mmengine_never_vanishes(epochs: int, warm_up: int, milestones: list[int]) -> None:
    """Without length it would stop the run, or leave it at its tiny first rate."""
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'schedules' / 'a2mim_adamw_vit_800e.py')
    set_epochs(cfg, epochs)
    linear, steps = cfg.param_scheduler
    assert (linear.begin, linear.end, steps.milestones, cfg.train_cfg.max_epochs) == (0, warm_up, milestones, epochs)


def test_the_closed_schedule_scales_exactly() -> None:
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'schedules' / 'a2mim_adamw_resnet_100e.py')
    set_epochs(cfg, 7)
    (schedule,) = cfg.param_scheduler
    assert (schedule.warmup, schedule.min_lr) == (pytest.approx(0.7), 1e-5)
    assert schedule.get('end', cfg.train_cfg.max_epochs) == 7


DDP = dict(device_ids=None, broadcast_buffers=False, find_unused_parameters=False)
OWN = dict(static_graph=True, gradient_as_bucket_view=False, find_unused_parameters=True)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (None, DDP),
        (OWN, {**DDP, **OWN}),
        (dict(type='mmengine.MMDistributedDataParallel'), {**DDP, 'type': 'mmengine.MMDistributedDataParallel'}),
        (dict(type='FullySharded'), dict(type='FullySharded')),
    ],
)
def test_a_launch_without_gpu_keeps_the_wrapper_of_the_config(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=given))
    prepare_distributed(cfg)
    assert cfg.model_wrapper_cfg == expected
