"""Where a run starts from: nothing, other weights, the newest checkpoint, or a named one."""

from pathlib import Path

import pytest
from test_tools.tiny_runs import tiny_config, write_config

from mmselfsup_graft.engine.train import load_config, train
from mmselfsup_graft.errors import ConfigError


def _cfg(tmp_path: Path, name: str, **top_level):
    cfg = load_config(write_config(tmp_path / f'{name}.py', tiny_config('mim', epochs=2)))
    cfg.work_dir, cfg.launcher = str(tmp_path / name), 'none'
    cfg.update(top_level)
    return cfg


def test_a_run_with_load_from_is_resumed_from_its_own_checkpoint(tmp_path: Path) -> None:
    train(_cfg(tmp_path, 'first'))
    weights = str(tmp_path / 'first' / 'epoch_2.pth')
    fresh = train(_cfg(tmp_path, 'second', load_from=weights, resume=True))
    assert fresh.iter == fresh.max_iters
    first_steps = (tmp_path / 'second' / 'epoch_1.pth').stat().st_mtime_ns
    assert first_steps  # it began at iteration 0: the first epoch was written
    (tmp_path / 'second' / 'epoch_2.pth').unlink()
    before = (tmp_path / 'second' / 'epoch_1.pth').stat().st_mtime_ns
    again = train(_cfg(tmp_path, 'second', load_from=weights, resume=True))
    assert again.iter == again.max_iters
    assert (tmp_path / 'second' / 'epoch_1.pth').stat().st_mtime_ns == before
    assert (tmp_path / 'second' / 'epoch_2.pth').is_file()


def test_resume_from_names_the_file(tmp_path: Path) -> None:
    train(_cfg(tmp_path, 'run'))
    written = (tmp_path / 'run' / 'epoch_2.pth').stat().st_mtime_ns
    train(_cfg(tmp_path, 'run', resume=True, resume_from=str(tmp_path / 'run' / 'epoch_1.pth')))
    assert (tmp_path / 'run' / 'epoch_2.pth').stat().st_mtime_ns > written


@pytest.mark.parametrize(
    ('option', 'hint'),
    [
        ('default_hooks.checkpoint.intervall', 'interval'),
        ('train_dataloader.dataset.pipeline.1.scal', 'scale'),
    ],
)
def test_misspelt_keys_of_hooks_and_torchvision_wrappers(option: str, hint: str, tmp_path: Path) -> None:
    path = write_config(tmp_path / 'mim.py', tiny_config('mim'))
    with pytest.raises(ConfigError, match=f"did you mean '{hint}'"):
        load_config(path, {option: 1})


def test_a_run_has_at_least_one_epoch(tmp_path: Path) -> None:
    cfg = _cfg(tmp_path, 'none')
    cfg.train_cfg.max_epochs = -1
    with pytest.raises(ConfigError, match='max_epochs must be at least 1'):
        train(cfg)
