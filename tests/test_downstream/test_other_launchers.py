"""The configs under MMDetection's and MMSegmentation's own tools, which is what ``mim train`` starts."""

import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from test_downstream.test_end_to_end import written
from test_tools.tiny_runs import Outcome
from tiny_downstream import CONFIGS, method_of, shrunk_downstream, write_pretrained

ROOT = CONFIGS.parent


def run(library: str, *arguments: object, start: Any = Forked) -> Outcome:
    tool = Path(importlib.import_module(library).__file__ or '').parent / '.mim' / 'tools' / 'train.py'
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(tool), *map(str, arguments)]
    process = start(command, env=environment)
    out, err = process.communicate()
    return Outcome(process.returncode, out, err)


Python = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
SWAV = 'mmdetection/mask-rcnn_r50-swav-pre_fpn_1x_coco.py'  # mmengine's own runner and loading
VITS = (
    ('mmdet', 'mmdetection/mask-rcnn_vit-base-p16-layer-grafted-pre_fpn_ms-1x_coco.py'),
    ('mmseg', 'mmsegmentation/upernet_vit-base-p16-mae-pre_8xb2-160k_ade20k-512x512.py'),
)


@pytest.mark.parametrize(
    ('library', 'name', 'start'),
    [
        ('mmdet', SWAV, Forked),
        *((*each, Forked) for each in VITS),
        # what a config imports by itself, without our modules in the process
        *(pytest.param(*each, Python, marks=pytest.mark.slow) for each in VITS),
    ],
)
def test_training(library, name, start, data, tmp_path):
    cfg = shrunk_downstream(CONFIGS / name, data, tmp_path)
    source = write_pretrained(cfg.model.backbone.to_dict(), method_of(CONFIGS / name), tmp_path / 'pretrained.pth')
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'pretrained.pth')
    config = written(cfg, tmp_path / 'config.py')
    done = run(library, config, '--work-dir', tmp_path / 'run', start=start)
    assert done.code == 0, done.err[-3000:]
    assert list((tmp_path / 'run').glob('*_[12].pth'))
    if 'swav' in name:
        # written by mmengine's own hook, with objects in it
        state = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)['state_dict']
        assert state['backbone.conv1.weight'].equal(source['conv1.weight'])
    else:
        assert f'148 tensors from {tmp_path / "pretrained.pth"}' in done.out + done.err


def test_a_wrong_file_stops_their_run_too(data, tmp_path):
    path = CONFIGS / 'mmsegmentation' / 'upernet_vit-base-p16-mae-pre_8xb2-160k_ade20k-512x512.py'
    cfg = shrunk_downstream(path, data, tmp_path)
    narrow = {
        **cfg.model.backbone.to_dict(),
        'arch': dict(embed_dims=16, num_layers=12, num_heads=2, feedforward_channels=48),
    }
    write_pretrained(narrow, 'mae', tmp_path / 'narrow.pth')
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'narrow.pth')
    done = run('mmseg', written(cfg, tmp_path / 'config.py'), '--work-dir', tmp_path / 'run')
    assert done.code != 0
    assert 'narrow.pth does not fit backbone (VisionTransformer)' in done.err
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_resuming_by_their_tool(data, tmp_path):
    """It names the file in ``load_from``; the run goes on instead of starting anew from its weights."""
    path = CONFIGS / 'mmdetection' / 'mask-rcnn_r50-mocov2-pre_fpn-syncbn_ms-1x_coco.py'
    cfg = shrunk_downstream(path, data, tmp_path)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    write_pretrained(cfg.model.backbone.to_dict(), 'mocov2', tmp_path / 'moco.pth')
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'moco.pth')
    config = written(cfg, tmp_path / 'config.py')
    assert run('mmdet', config, '--work-dir', tmp_path / 'run').code == 0
    again = ('--resume', tmp_path / 'run' / 'epoch_1.pth', '--cfg-options', 'train_cfg.max_epochs=2')
    done = run('mmdet', config, '--work-dir', tmp_path / 'other', *again)
    assert done.code == 0, done.err[-2000:]
    assert 'resumed epoch: 1, iter: 2' in done.out + done.err
    assert [path.name for path in (tmp_path / 'other').glob('epoch_*.pth')] == ['epoch_2.pth']


class RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize('entry', ['init_cfg', 'load_from'])
def test_a_file_with_code_is_not_run_by_their_tool(entry, data, tmp_path):
    """Nor by mmengine's own runner, which this config has."""
    cfg = shrunk_downstream(CONFIGS / SWAV, data, tmp_path)
    torch.save({'state_dict': {}, 'x': RunsCode(tmp_path / 'executed')}, tmp_path / 'hostile.pth')
    cfg.model.backbone.init_cfg = None
    if entry == 'init_cfg':
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'hostile.pth'))
    else:
        cfg.load_from = str(tmp_path / 'hostile.pth')
    done = run('mmdet', written(cfg, tmp_path / 'config.py'), '--work-dir', tmp_path / 'run')
    assert done.code != 0
    assert 'would run code while being read' in done.err
    assert not (tmp_path / 'executed').exists()
