"""The runner-free examples run, are short, and mean the same as the toolbox."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections import OrderedDict
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import sklearn.datasets
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from mmselfsup_graft import evaluation
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import LayerWiseLRConstructor

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / 'examples').glob('*.py'))


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / 'examples' / f'{name}.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_readable_at_a_glance(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 130


def run(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    """What ``python examples/NAME.py --epochs 1`` prints, in this process, with fewer images and draws of labels."""
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())  # a logger of another test would swallow the report
    digits = load_digits()
    few = slice(0, 192 + 400)  # three batches, and those that are scored on
    fewer = Bunch(images=digits.images[few], target=digits.target[few])
    monkeypatch.setattr(sklearn.datasets, 'load_digits', lambda: fewer)
    monkeypatch.setattr(evaluation, 'FewShotProtocol', partial(evaluation.FewShotProtocol, draws=2))
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', '--epochs', '1'])
    runpy.run_path(str(ROOT / 'examples' / f'{name}.py'), run_name='__main__')
    return capsys.readouterr().out


def check_layer_grafted(printed: str) -> None:
    scores = dict(re.findall(r'^(\w+) accuracy .* class: \{1: ([\d.]+)', printed, flags=re.M))
    assert scores.keys() == {'MIM', 'LGP'}
    assert all(10 < float(value) < 100 for value in scores.values())
    assert '42 tensors from' in printed
    assert ' 0 tensors stay fresh' in printed


def test_layer_grafted_runs_and_scores_both_stages(monkeypatch, capsys) -> None:
    check_layer_grafted(run('layer_grafted', monkeypatch, capsys))


@pytest.mark.slow
def test_an_example_is_a_program() -> None:
    command = [sys.executable, 'examples/layer_grafted.py', '--epochs', '1']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    check_layer_grafted(done.stdout)


def test_tec_runs_and_scores_three_encoders(monkeypatch, capsys) -> None:
    printed = run('tec', monkeypatch, capsys)
    scores = dict(re.findall(r'^([\w ]+) accuracy .* class: \{1: ([\d.]+)', printed, flags=re.M))
    assert scores.keys() == {'base', 'trained on', 'TEC'}
    assert all(10 < float(value) < 100 for value in scores.values())
    assert re.search(r'TEC \d+/\d+, loss_feature [\d.]+, loss_attention [\d.]+', printed)


def test_a2mim_runs_and_scores_both_architectures(monkeypatch, capsys) -> None:
    printed = run('a2mim', monkeypatch, capsys)
    scores = dict(re.findall(r'^(\w+ \w+), accuracy .* class: \{1: ([\d.]+)', printed, flags=re.M))
    assert scores.keys() == {'ResNet random', 'ResNet A2MIM', 'ViT random', 'ViT A2MIM'}
    assert all(10 < float(value) < 100 for value in scores.values())
    assert re.search(r'MaskedViT \d+/\d+, loss_spatial [\d.]+, loss_fourier [\d.]+', printed)


def test_a2mim_groups_parameters_as_the_toolbox_does() -> None:
    example = module_of('a2mim')
    rules = {'resnet': 'a2mim_adamw_resnet_100e', 'vit': 'a2mim_adamw_vit_800e'}
    for name, schedule in rules.items():
        model = getattr(example, name)()
        cfg = Config.fromfile(str(ROOT / 'configs' / '_base_' / 'schedules' / f'{schedule}.py')).optim_wrapper
        wrapper = {'optimizer': {'type': 'AdamW', 'lr': 2e-3, 'weight_decay': 0.05}}
        expected = LayerWiseLRConstructor(wrapper, cfg.paramwise_cfg).param_groups(model)
        wanted = {id(p): (pytest.approx(g['lr']), g['weight_decay']) for g in expected for p in g['params']}
        found = {
            id(p): (g['peak'], g['weight_decay']) for g in example.parameter_groups(model, 2e-3) for p in g['params']
        }
        assert found == wanted


def test_layer_grafted_uses_the_rates_of_the_toolbox(tmp_path: Path) -> None:
    example = module_of('layer_grafted')
    torch.manual_seed(0)
    mim = example.mae()
    mim.init_weights()
    save_atomically({'state_dict': mim.state_dict()}, tmp_path / 'mim.pth')
    model = example.moco(str(tmp_path / 'mim.pth'))
    model.init_weights()
    for encoder in (model.backbone, model.momentum_encoder.backbone):
        assert all(torch.equal(value, mim.backbone.state_dict()[name]) for name, value in encoder.state_dict().items())
    groups = example.parameter_groups(model, 2e-3, [0.1, 0.1, 1.0])
    wrapper = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 2e-3, 'weight_decay': 0.05}}
    expected = LayerWiseLRConstructor(wrapper, {'lr_layer_wise': [0.1, 0.1, 1.0]}).param_groups(model)
    wanted = {id(p): (group['lr'], group['weight_decay']) for group in expected for p in group['params']}
    assert {id(p): (group['peak'], group['weight_decay']) for group in groups for p in group['params']} == wanted
