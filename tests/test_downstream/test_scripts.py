"""The scripts of tools/benchmarks on two processes of this CPU: trained from a pre-trained file, then tested."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_downstream.test_end_to_end import written
from tiny_downstream import CONFIGS, method_of, shrunk_downstream, write_pretrained

SCRIPTS = CONFIGS.parent / 'tools' / 'benchmarks'


def run(script: str, *arguments: object) -> str:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    environment = {**os.environ, 'GRAFT_VENV': '/nowhere', 'GRAFT_PYTHON': sys.executable, 'PORT': str(port)}
    environment['OMP_NUM_THREADS'] = '1'
    done = subprocess.run(
        ['bash', str(SCRIPTS / script), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    'name',
    [
        'mmdetection/mask-rcnn_r50-mocov2-pre_fpn-syncbn_ms-1x_coco.py',
        'mmsegmentation/upernet_vit-base-p16-layer-grafted-pre_8xb2-160k_ade20k-512x512.py',
    ],
)
@pytest.mark.slow
def test_two_processes_train_and_test(name, data, tmp_path):
    library = Path(name).parts[0]
    cfg = shrunk_downstream(CONFIGS / name, data, tmp_path)
    source = write_pretrained(cfg.model.backbone.to_dict(), method_of(CONFIGS / name), tmp_path / 'pre.pth')
    cfg.train_dataloader.batch_size = 1
    config, folder = written(cfg, tmp_path / 'config.py'), tmp_path / 'run'
    log = run(f'{library}/dist_train.sh', config, tmp_path / 'pre.pth', 2, '--work-dir', folder)
    # SyncBN was not refused on the CPU; mmengine says so about models that it leaves alone
    assert 'pre-trained weights of backbone' in log
    (checkpoint,) = folder.glob('epoch_1.pth') if library == 'mmdetection' else folder.glob('iter_2.pth')
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    learned = [key for key in source if f'backbone.{key}' in state and source[key].is_floating_point()]
    assert max((state[f'backbone.{key}'] - source[key]).abs().max() for key in learned if 'pos_embed' not in key) > 0
    run(f'{library}/dist_test.sh', config, checkpoint, 2, '--work-dir', folder)
    metrics = json.loads((folder / 'test.json').read_text())['metrics']
    assert {'mmdetection': 'coco/bbox_mAP', 'mmsegmentation': 'mIoU'}[library] in metrics
