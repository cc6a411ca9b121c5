"""Hooks that only look: what they write, and that a run with them ends with the same bits as one without."""

import json
import math
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from test_tools.tiny_runs import assert_same_run, tiny_config, write_config

from mmselfsup_graft.analysis import ConflictProfile
from mmselfsup_graft.analysis.collapse.hook import CollapseHook
from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.models.joint_views import JointViews

CONFLICT = dict(type='GradientConflictHook', interval=4)
MULTI_PARTS = ['backbone', 'objectives.cl.neck']


def train(folder: Path, kind: str, hooks: list[dict[str, Any]], epochs: int = 2, **options: Any) -> GraftRunner:
    often = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=5)))
    path = write_config(folder / 'config.py', {**tiny_config(kind, epochs=epochs, **often), 'custom_hooks': hooks})
    cfg = load_config(path)
    cfg.work_dir, cfg.experiment_name = str(folder), uuid.uuid4().hex
    cfg.merge_from_dict(options)
    runner = GraftRunner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def plain(tmp_path_factory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp(f'plain_{kind}') for kind in ('multi', 'cl')}
    for kind, folder in folders.items():
        train(folder, kind, [])
    return folders


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]


def test_conflict_is_written_and_training_is_untouched(plain, tmp_path) -> None:
    train(tmp_path, 'multi', [CONFLICT])
    assert_same_run(tmp_path / 'iter_12.pth', plain['multi'] / 'iter_12.pth')
    profile = ConflictProfile.read_csv(tmp_path / 'gradient_conflict.csv')
    assert sorted({row.iteration for row in profile.rows}) == [3, 7, 11]
    assert profile.groups() == ['embed', 'blocks.0', 'blocks.1', 'blocks.2', 'norm', 'all']
    assert all(-1 <= row.cosine <= 1 and row.norm_first > 0 < row.norm_second for row in profile.rows)


def test_conflict_goes_on_after_a_resume(tmp_path) -> None:
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    train(whole, 'multi', [CONFLICT])
    runner = train(halves, 'multi', [CONFLICT])
    for name in ('iter_12.pth', 'epoch_2.pth'):
        (halves / name).unlink(missing_ok=True)
    assert runner.iter == 12
    train(halves, 'multi', [CONFLICT], resume=True)  # from iteration 10, though the file reaches to 11
    first, second = (ConflictProfile.read_csv(folder / 'gradient_conflict.csv') for folder in (whole, halves))
    assert first == second


def test_conflict_needs_several_objectives(tmp_path) -> None:
    with pytest.raises(ConfigError, match='needs a MultiTask model, got MoCoV3'):
        train(tmp_path, 'cl', [CONFLICT])
    with pytest.raises(ConfigError, match='interval must be at least 1'):
        train(tmp_path, 'multi', [{**CONFLICT, 'interval': 0}])


@pytest.mark.parametrize(('kind', 'parts'), [('cl', ['backbone', 'neck']), ('multi', MULTI_PARTS)])
def test_collapse_is_logged_and_training_is_untouched(kind, parts, plain, tmp_path) -> None:
    train(tmp_path, kind, [dict(type='CollapseHook', interval=4, parts=parts)])
    assert_same_run(tmp_path / 'iter_12.pth', plain[kind] / 'iter_12.pth')
    rows = history(tmp_path)
    keys = {f'{part}_{name}' for part in parts for name in ('std', 'rank', 'cosine')}
    for row in rows:
        assert (keys <= set(row)) == (row['iter'] % 4 == 3), row
    values = rows[3]
    for part in parts:
        assert 0 < values[f'{part}_std'] < 1.5
        assert 1 <= values[f'{part}_rank'] <= 8  # images in a view
        assert -1 <= values[f'{part}_cosine'] <= 1
    assert math.isclose(rows[3]['loss'], history(plain[kind])[3]['loss'])


@pytest.mark.parametrize(('kind', 'parts'), [('cl', ['backbone', 'neck', 'head.predictor']), ('multi', MULTI_PARTS)])
def test_collapse_is_of_one_view_however_many_pass_at_once(kind, parts, tmp_path, monkeypatch) -> None:
    """Views of an image are not different images: the indicators are those of views that pass one by one."""
    hooks = [dict(type='CollapseHook', interval=1, parts=parts)]
    rows = []
    options = {'model.backbone.drop_path_rate': 0.0}  # drop path would draw other numbers
    for form in ('jointly', 'one by one'):
        if form == 'one by one':
            monkeypatch.setattr(JointViews, '_can_join', lambda *_: False)
        train(tmp_path / form, kind, hooks, epochs=1, **options)
        rows.append(history(tmp_path / form)[0])
    fast, plain = rows
    for part in parts:
        for name in ('std', 'rank', 'cosine'):
            assert math.isclose(fast[f'{part}_{name}'], plain[f'{part}_{name}'], rel_tol=1e-4), (part, name)


def test_collapse_needs_its_parts(tmp_path) -> None:
    with pytest.raises(ConfigError, match="MAE has no part 'projector'"):
        train(tmp_path, 'mim', [dict(type='CollapseHook', parts=['projector'])])


def test_a_run_gone_wrong_is_stopped_by_the_hook_that_keeps_the_batch(tmp_path) -> None:
    class Break(Hook):
        priority = 'HIGHEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            with torch.no_grad():
                runner.model.backbone.cls_token.fill_(float('nan'))

    hooks = [dict(type='CollapseHook', interval=1)]
    config = tiny_config('cl', epochs=1, default_hooks=dict(nonfinite=dict(interval=1)))
    cfg = load_config(write_config(tmp_path / 'config.py', {**config, 'custom_hooks': hooks}))
    cfg.work_dir, cfg.experiment_name = str(tmp_path), uuid.uuid4().hex
    runner = GraftRunner.from_cfg(cfg)
    runner.register_hook(Break())
    with pytest.raises(GraftError, match='the loss became nan'):
        runner.train()
    assert (tmp_path / 'nonfinite_batch.pth').is_file()


def test_collapse_interval() -> None:
    with pytest.raises(ConfigError, match='interval must be at least 1'):
        CollapseHook(interval=0)
