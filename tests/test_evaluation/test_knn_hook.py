"""k-NN during pre-training: seen in log and history, felt by nothing."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from test_tools.tiny_runs import (
    assert_same_run,
    call_tool,
    digits,
    evaluation,
    fresh_name,
    tiny_config,
    write_config,
)

from mmselfsup_graft.analysis.figures.curves import draw_loss_curves
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation.knn_hook import KNNHook
from mmselfsup_graft.evaluation.scoring import score_checkpoint
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class GeneratorStates(Hook):
    """Keeps the state of every generator and module after the epochs, behind the k-NN hook."""

    priority = 'VERY_LOW'
    seen: list = []

    def after_train_epoch(self, runner) -> None:
        modes = [part.training for part in runner.model.modules()]
        self.seen.append((random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), modes))


def knn_hook(**options) -> dict:
    section = evaluation(60)
    return dict(type='KNNHook', train=section['train'], test=section['test'], knn=dict(k=[5]), **options)


def train(folder: Path, kind: str, *hooks: dict, epochs: int = 3) -> tuple[Path, list]:
    GeneratorStates.seen.clear()
    content = tiny_config(kind, images=16, epochs=epochs, custom_hooks=[*hooks, dict(type='GeneratorStates')])
    done = call_tool('train', write_config(folder / 'tiny.py', content), '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return folder / 'run', list(GeneratorStates.seen)


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / 'history.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('kind', ['cl', 'mim'])
def test_a_run_ends_with_the_same_bits(kind, tmp_path):
    plain, before = train(tmp_path / 'plain', kind)
    watched, after = train(tmp_path / 'watched', kind, knn_hook())
    assert_same_run(watched / 'epoch_3.pth', plain / 'epoch_3.pth')
    assert [row for row in history(watched) if 'knn' not in row] == history(plain)
    assert len(before) == len(after) == 3
    for first, second in zip(before, after):
        assert first[:2] == second[:2]
        assert torch.equal(first[2], second[2])
        assert first[3] == second[3]


def test_another_feature_after_a_block(tmp_path):
    run, _ = train(tmp_path, 'cl', knn_hook(interval=3, feature='both', block=1))
    (row,) = [row for row in history(run) if 'knn' in row]
    cfg = load_config(tmp_path / 'tiny.py')
    cfg.evaluation = {**evaluation(60), 'knn': dict(k=[5]), 'feature': 'both', 'block': 1}
    assert row['knn'] == pytest.approx(score_checkpoint(cfg, run / 'epoch_3.pth').results['knn']['accuracy'])
    plain, _ = train(tmp_path / 'plain', 'cl')
    assert_same_run(run / 'epoch_3.pth', plain / 'epoch_3.pth')


def test_what_is_written(tmp_path):
    run, _ = train(tmp_path, 'cl', knn_hook(interval=2))
    scores = [row for row in history(run) if 'knn' in row]
    # after the second epoch, and after the last one whatever the interval; iterations as in the rows around them
    assert [(row['epoch'], row['iter']) for row in scores] == [(1, 3), (2, 5)]
    cfg = load_config(tmp_path / 'tiny.py')
    cfg.evaluation = {**evaluation(60), 'knn': dict(k=[5])}
    for row in scores:
        expected = score_checkpoint(cfg, run / f'epoch_{row["epoch"] + 1}.pth').results['knn']['accuracy']
        assert row['knn'] == pytest.approx(expected)
    (log,) = run.glob('*/*.log')
    assert f'k-NN after epoch 3: {scores[-1]["knn"]:.2f} %' in log.read_text()
    draw_loss_curves({'run': run}, tmp_path / 'curves.png')  # reads the history past such rows
    assert (tmp_path / 'curves.png').is_file()


def test_a_resumed_run_keeps_its_scores(tmp_path):
    whole, _ = train(tmp_path / 'whole', 'cl', knn_hook(), epochs=2)
    content = tiny_config('cl', images=16, epochs=2, custom_hooks=[knn_hook()])
    config = write_config(tmp_path / 'tiny.py', content)
    run = tmp_path / 'run'
    for options in ([], ['--resume', whole / 'epoch_1.pth']):  # the second cuts the history and goes on
        done = call_tool('train', config, '--work-dir', run, *options, *fresh_name())
        assert done.code == 0, done.err
    assert history(run) == history(whole)


def test_settings_that_cannot_be():
    section = evaluation(10)
    sides = {'train': section['train'], 'test': section['test']}
    with pytest.raises(ConfigError, match='interval must be at least 1'):
        KNNHook(**sides, interval=0)
    with pytest.raises(ConfigError, match=r'KNNHook\.knn: .*neighbors'):
        KNNHook(**sides, knn=dict(neighbors=3))


def test_faults_show_before_the_training(tmp_path):
    hook = knn_hook()
    hook['test'] = digits('test', [], split_='x')
    config = write_config(tmp_path / 'tiny.py', tiny_config('cl', images=16, custom_hooks=[hook]))
    message = call_tool('train', config, '--work-dir', tmp_path / 'run', *fresh_name()).error()
    assert "unknown key 'custom_hooks.0.test.split_'" in message
