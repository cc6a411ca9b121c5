"""``--log``: the backends that a config gets, and packages that are missing."""

import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from test_tools.tiny_runs import call_tool, tiny_config, write_config

from mmselfsup_graft.engine.config import log_backends
from mmselfsup_graft.engine.config.log_backends import BACKENDS, log_to
from mmselfsup_graft.errors import ConfigError


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(log_backends.importlib.util, 'find_spec', lambda name: name)


def types(cfg: Config) -> list[str]:
    return [backend['type'].rpartition('.')[2] for backend in cfg.visualizer.vis_backends]


@pytest.mark.usefixtures('installed')
def test_a_run_keeps_its_own_backend_and_gets_one_more():
    cfg = Config({'work_dir': 'work_dirs/mae'})
    log_to(cfg, ['wandb', 'tensorboard'])
    assert types(cfg) == ['LocalVisBackend', 'WandbVisBackend', 'TensorboardVisBackend']
    assert cfg.visualizer.vis_backends[1].init_kwargs == {'project': 'mmselfsup_graft', 'name': 'mae'}


@pytest.mark.usefixtures('installed')
def test_a_visualizer_of_the_config_stays():
    given = {'type': 'Other', 'name': 'mine', 'vis_backends': [{'type': 'TensorboardVisBackend', 'save_dir': 'x'}]}
    cfg = Config({'work_dir': 'run', 'visualizer': given})
    log_to(cfg, ['tensorboard', 'mlflow'])
    assert types(cfg) == ['TensorboardVisBackend', 'MLflowVisBackend']
    assert (cfg.visualizer.type, cfg.visualizer.vis_backends[0].save_dir) == ('Other', 'x')


@pytest.mark.parametrize('name', BACKENDS)
def test_mmengine_has_the_backend_with_these_options(name):
    backend = log_backends._backend(name, Path('run'))
    kind = VISBACKENDS.get(backend.pop('type').removeprefix('mmengine.'))
    assert kind is not None
    kind('nowhere', **backend)  # connects at its first use


def test_a_missing_package_is_named_with_the_command(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *more: None if name == 'wandb' else real(name, *more))
    config = write_config(tmp_path / 'mim.py', tiny_config('mim'))
    message = call_tool('train', config, '--work-dir', tmp_path / 'run', '--log', 'wandb').error()
    assert message == '--log wandb needs the package wandb, which is not installed: pip install wandb'
    assert not (tmp_path / 'run').exists()


def test_an_unknown_service_is_refused():
    with pytest.raises(ConfigError, match='choose from tensorboard, wandb'):
        log_to(Config({'work_dir': 'run'}), ['board'])
