"""Checkpoints with one changed field: each is refused in one line, or resumes as the unchanged file does."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tampering
import torch
from mmengine.config import Config
from test_engine.test_resume_checks import config, everything, ready
from test_tools.tiny_runs import call_tool, fresh_name, load, write_config

from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.resuming.resume import read_plain, resume
from mmselfsup_graft.errors import GraftError

COUNT = 18  # of each kind of run
AVERAGE = dict(type='EMAHook', momentum=0.1)
# another seed is a legitimate value, and a warning
LEGITIMATE = {'meta.seed'}
# of the log: set anew by every run, or shown only
NOT_COMPARED = {'cfg', 'eta', 'loop_stage'}


@pytest.fixture(scope='module', autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg.to_dict())))
        yield


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Folder with a config and its run of one epoch."""
    folder = tmp_path_factory.mktemp('tampered')
    path = write_config(folder / 'cl.py', config(epochs=1, custom_hooks=[AVERAGE]))
    done = call_tool('train', path, '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return folder


def of_a_plain_run(trained: Path, folder: Path) -> tuple[GraftRunner, Path]:
    return ready(trained / 'cl.py', folder / 'again', 'plain'), trained / 'run' / 'epoch_1.pth'


def of_a_run_resumed_anyway(trained: Path, folder: Path) -> tuple[GraftRunner, Path]:
    """Of a second epoch with another batch than the first."""
    path = write_config(folder / 'cl.py', config(custom_hooks=[AVERAGE], train_dataloader=dict(batch_size=4)))
    anyway = ['--resume', trained / 'run' / 'epoch_1.pth', '--cfg-options', 'resume_anyway=True']
    done = call_tool('train', path, '--work-dir', folder / 'run', *anyway, *fresh_name())
    assert done.code == 0, done.err
    return ready(path, folder / 'again', 'anyway'), folder / 'run' / 'epoch_2.pth'


def variants(content: dict[str, Any], seed: int) -> list[tuple[tampering.Place, str]]:
    """Drawn so that every kind of field has the same chance, of whatever number of fields."""
    draw, by_kind = random.Random(seed), {}
    for place, value in tampering.fields(content):
        by_kind.setdefault(tampering.kind_of_path(place), []).append((place, value))
    drawn = []
    for _ in range(COUNT):
        place, value = draw.choice(by_kind[draw.choice([kind for kind in by_kind if kind not in LEGITIMATE])])
        drawn.append((place, draw.choice(list(tampering.changes_for(value)))))
    return drawn


def differing(actual: Any, expected: Any, where: str = '') -> str | None:
    """The first place where two states differ; 1 and 1.0 do not, nor do list and tuple or the order of keys."""
    if isinstance(expected, torch.Tensor):
        return None if isinstance(actual, torch.Tensor) and torch.equal(actual, expected) else where
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping) or set(actual) != set(expected):
            return where
        return next(filter(None, (differing(actual[key], expected[key], f'{where}.{key}') for key in expected)), None)
    if isinstance(expected, list | tuple):
        if not isinstance(actual, list | tuple) or len(actual) != len(expected):
            return where
        pairs = enumerate(zip(actual, expected))
        return next(filter(None, (differing(*pair, f'{where}[{number}]') for number, pair in pairs)), None)
    return None if actual == expected else where


def resumed(runner: GraftRunner, path: Path) -> dict[str, Any]:
    resume(runner, str(path), read_plain(str(path)))
    state = everything(runner)
    state['average'] = next(each.ema_model for each in runner.hooks if hasattr(each, 'ema_model')).state_dict()
    state['log'] = {key: value for key, value in state['log'].items() if key not in NOT_COMPARED}
    return state


@pytest.mark.parametrize(('seed', 'kind'), enumerate([of_a_plain_run, of_a_run_resumed_anyway]))
def test_variants(seed, kind, trained, tmp_path):
    """Of the checkpoint of each kind of run, for a runner right before it resumes from it."""
    runner, good = kind(trained, tmp_path)
    content, outcomes = load(good), []
    runner.cfg.resume = runner._resume = True
    wanted = resumed(runner, good)
    for place, name in variants(content, seed):
        value = tampering.holder(content, place)[place[-1]]
        torch.save(tampering.changed(content, place, tampering.changes_for(value)[name]), tmp_path / 'changed.pth')
        what = f'{".".join(map(str, place))}: {name}'
        try:
            state = resumed(runner, tmp_path / 'changed.pth')
        except GraftError as error:
            text = str(error)
            assert text.isprintable(), what
            assert len(text) < 2000, what
            outcomes.append('refused')
            continue
        assert differing(state, wanted) is None, what
        outcomes.append('equal')
    assert min(map(outcomes.count, ('refused', 'equal'))) > COUNT // 10
