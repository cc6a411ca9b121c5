"""From a pre-training checkpoint through the tools to a trained, resumed and tested detector and segmentor."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from test_tools.tiny_runs import call_tool, fresh_name, load
from tiny_downstream import CONFIGS, shrunk_downstream, write_pretrained
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from mmselfsup_graft.engine import train
from mmselfsup_graft.engine.optimizers import autocast
from mmselfsup_graft.engine.train import load_config, set_epochs

COCO = CONFIGS / 'mmdetection' / 'mask-rcnn_r50-mocov2-pre_fpn_1x_coco.py'
ADE = CONFIGS / 'mmsegmentation' / 'upernet_vit-base-p16-layer-grafted-pre_8xb2-160k_ade20k-512x512.py'


def written(cfg: Config, file: Path) -> Path:
    """The config as a file, without the folder of its runs."""
    content = cfg.to_dict()
    for key in ('work_dir', 'experiment_name'):
        content.pop(key)
    content['log_level'] = 'INFO'
    content['randomness'] = dict(seed=0)  # without one, some runs end with no detection to measure
    Config(content).dump(str(file))
    return file


def trained(config: Path, folder: Path, *options: str) -> str:
    """Train; what was added to the log. Runs that begin in the same second share a file."""
    before = {path: path.stat().st_size for path in folder.glob('2*/*.log')}
    done = call_tool('train', config, '--work-dir', folder, *fresh_name(), *options)
    assert done.code == 0, done.err
    newest = max(folder.glob('2*/*.log'))
    return newest.read_bytes()[before.get(newest, 0) :].decode()


def test_mask_rcnn_from_moco(data, tmp_path):
    cfg = shrunk_downstream(COCO, data, tmp_path)
    source = write_pretrained(cfg.model.backbone.to_dict(), 'mocov2', tmp_path / 'moco.pth.tar')
    done = call_tool(
        'model_converters/selfsup2mmdet',
        tmp_path / 'moco.pth.tar',
        tmp_path / 'r50.pth',
        '--selfsup',
        'moco',
        '--no-verify',
    )
    assert done.code == 0, done.err
    config, run = written(cfg, tmp_path / 'mask_rcnn.py'), tmp_path / 'run'

    log = trained(config, run, '--pretrained', str(tmp_path / 'r50.pth'))
    assert 'pre-trained weights of backbone (ResNet)' in log
    assert f'318 tensors from {tmp_path / "r50.pth"} (format mmpretrain, base encoder)' in log
    assert 'coco/bbox_mAP' in log
    assert 'coco/segm_mAP' in log
    first = load(run / 'epoch_1.pth')['state_dict']
    assert torch.equal(first['backbone.conv1.weight'], source['conv1.weight'])  # frozen: as it came

    # going on needs no file of pre-trained weights, and starts where the first run ended
    (tmp_path / 'r50.pth').unlink()
    log = trained(config, run, '--resume', '--epochs', '2', '--pretrained', str(tmp_path / 'r50.pth'))
    assert 'pre-trained weights' not in log
    assert 'resumed epoch: 1, iter: 2' in log
    assert (run / 'epoch_2.pth').is_file()

    done = call_tool('test', config, run / 'epoch_2.pth', '--work-dir', run, *fresh_name())
    assert done.code == 0, done.err
    result = json.loads((run / 'test.json').read_text())
    assert result['checkpoint'] == str(run / 'epoch_2.pth')
    assert -1 <= result['metrics']['coco/segm_mAP'] <= 1
    newest = sorted(run.glob('2*'))[-1]
    assert 'earlier run' not in (newest / f'{newest.name}.log').read_text()  # it is what is being tested


def test_upernet_from_layer_grafted(data, tmp_path):
    cfg = shrunk_downstream(ADE, data, tmp_path)
    source = write_pretrained(cfg.model.backbone.to_dict(), 'layer-grafted', tmp_path / 'lgp.pth.tar')
    done = call_tool('model_converters/convert', tmp_path / 'lgp.pth.tar', tmp_path / 'vit.pth', '--to', 'mmseg')
    assert done.code == 0, done.err
    assert 'loaded into mmpretrain.VisionTransformer: every tensor fits' in done.out
    config, run = written(cfg, tmp_path / 'upernet.py'), tmp_path / 'run'

    log = trained(config, run, '--pretrained', str(tmp_path / 'vit.pth'))
    assert '148 tensors from' in log
    assert '1 of them resized: pos_embed (1)' in log
    assert 'mIoU' in log
    state = load(run / 'iter_2.pth')['state_dict']
    assert state.keys() > {f'backbone.{name}' for name in source if not name.startswith('ln1.')}

    log = trained(config, run, '--resume', '--cfg-options', 'train_cfg.max_iters=3')
    assert 'resumed epoch: 0, iter: 2' in log
    assert (run / 'iter_3.pth').is_file()

    done = call_tool('test', config, run / 'iter_3.pth', '--work-dir', run, *fresh_name())
    assert done.code == 0, done.err
    metrics = json.loads((run / 'test.json').read_text())['metrics']
    assert 0 <= metrics['mIoU'] <= 100
    assert np.isfinite(metrics['aAcc'])


@pytest.mark.skipif(os.environ['GRAFT_MMCV_OPS'] != 'torchvision', reason='the compiled operators have no bfloat16')
def test_half_precision(detector, tmp_path, monkeypatch):
    config, cfg = detector
    write_pretrained(cfg.model.backbone.to_dict(), 'mocov2', tmp_path / 'moco.pth')
    monkeypatch.setattr(autocast, 'half_precision_here', lambda: torch.bfloat16)  # on every machine
    assert train.operators_in_use() == 'torchvision'
    seen: dict[str, set[torch.dtype]] = {}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if module.training and isinstance(output, torch.Tensor):
            seen.setdefault(type(module).__name__, set()).add(output.dtype)

    hook = register_module_forward_hook(note)
    try:
        log = trained(config, tmp_path / 'run', '--amp', '--pretrained', str(tmp_path / 'moco.pth'))
    finally:
        hook.remove()
    assert seen['Conv2d'] == seen['Linear'] == {torch.bfloat16}
    assert seen['SingleRoIExtractor'] == {torch.float32}  # regions stay precise
    state = load(tmp_path / 'run' / 'epoch_1.pth')['state_dict']
    assert all(value.isfinite().all() for value in state.values())
    assert not re.search(r'loss: nan', log)


@pytest.mark.parametrize(('operators', 'expected'), [('compiled', 'float32'), ('torchvision', None)])
def test_the_compiled_operators_have_no_bfloat16(detector, monkeypatch, operators, expected):
    monkeypatch.setattr(train, 'operators_in_use', lambda: operators)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = load_config(detector[0])
    train.enable_amp(cfg)
    assert cfg.optim_wrapper.get('dtype') == expected


def test_options_of_mmengines_checkpoint_hook(detector, tmp_path):
    config, cfg = detector
    write_pretrained(cfg.model.backbone.to_dict(), 'mocov2', tmp_path / 'moco.pth')
    hook = 'default_hooks.checkpoint'
    options = (f'{hook}.save_best=coco/bbox_mAP', f'{hook}.rule=greater', f'{hook}.max_keep_ckpts=1')
    pretrained = ('--pretrained', str(tmp_path / 'moco.pth'))
    trained(config, tmp_path / 'run', '--epochs', '2', *pretrained, '--cfg-options', *options)
    names = sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))
    assert names in ([f'best_coco_bbox_mAP_epoch_{best}.pth', 'epoch_2.pth'] for best in (1, 2))
    for name in names:
        load(tmp_path / 'run' / name)  # without running code


def test_length_of_a_run_and_its_drops(detector):
    config, _ = detector
    cfg = load_config(config)
    assert cfg.train_cfg.max_epochs == 1
    cfg.train_cfg.max_epochs = cfg.param_scheduler[1].end = 12
    set_epochs(cfg, 24)
    assert cfg.param_scheduler[1].milestones == [16, 22]


# ---------------------------------------------------------------- what stops a run
def refused(config: Path, file: Path, folder: Path) -> str:
    done = call_tool('train', config, '--work-dir', folder, '--pretrained', file, *fresh_name())
    assert not list(folder.rglob('*.pth'))
    return done.error()


@pytest.fixture(scope='module')
def detector(data, tmp_path_factory) -> tuple[Path, Config]:
    folder = tmp_path_factory.mktemp('detector')
    cfg = shrunk_downstream(COCO, data, folder)
    return written(cfg, folder / 'config.py'), cfg


def test_files_that_do_not_fit_stop_the_run(detector, tmp_path):
    config, cfg = detector
    backbone = cfg.model.backbone.to_dict()
    whole = write_pretrained(backbone, 'mocov2', tmp_path / 'moco.pth')
    wide = write_pretrained({**backbone, 'base_channels': 16, 'stem_channels': 16}, 'mocov2', tmp_path / 'wide.pth')
    assert wide.keys() == whole.keys()
    message = refused(config, tmp_path / 'wide.pth', tmp_path / 'run')
    assert 'does not fit backbone (ResNet): conv1.weight is 16 x 3 x 7 x 7 in the file and 8 x 3 x 7 x 7' in message
    write_pretrained({**backbone, 'depth': 101}, 'mocov2', tmp_path / 'deep.pth')
    message = refused(config, tmp_path / 'deep.pth', tmp_path / 'run')
    assert 'layer3.6.conv1.weight of the file has no place in the model' in message
    assert 'resnet with 3-4-23-3 blocks' in message
    part = {f'module.encoder_q.{name}': value for name, value in whole.items() if not name.startswith('layer4.2.')}
    torch.save({'state_dict': part}, tmp_path / 'part.pth')
    message = refused(config, tmp_path / 'part.pth', tmp_path / 'run')
    assert 'layer4.2.conv1.weight of the model is not in the file' in message


def test_files_that_are_no_checkpoint_stop_the_run(detector, tmp_path):
    config, _ = detector
    assert 'no such file' in refused(config, tmp_path / 'absent.pth', tmp_path / 'run')
    (tmp_path / 'empty.pth').touch()
    assert 'empty.pth' in refused(config, tmp_path / 'empty.pth', tmp_path / 'run')
    torch.save({'weights': shutil.rmtree}, tmp_path / 'code.pth')
    assert 'code.pth' in refused(config, tmp_path / 'code.pth', tmp_path / 'run')
    torch.save({'state_dict': {'linear.weight': torch.zeros(2)}}, tmp_path / 'foreign.pth')
    assert 'foreign.pth' in refused(config, tmp_path / 'foreign.pth', tmp_path / 'run')


def test_a_pretraining_config_takes_no_such_file(tmp_path):
    torch.save({}, tmp_path / 'file.pth')
    config = CONFIGS / 'mae' / 'mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'
    done = call_tool('train', config, '--pretrained', tmp_path / 'file.pth', '--work-dir', tmp_path / 'run')
    assert 'in pre-training use model.graft' in done.error()
