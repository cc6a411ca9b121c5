"""Bad input to the tools: one clear line, a non-zero exit, nothing executed and nothing half-written."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import moco_config, vit_config
from PIL import Image
from test_tools.tiny_runs import (
    Outcome,
    call_tool,
    digits,
    fresh_name,
    load,
    merged,
    run_tool_process,
    tiny_config,
    write_config,
)

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.registry import MODELS


class RunsCode:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Folder with a config and the checkpoint of its run of one epoch."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder / 'cl.py', tiny_config('cl', images=16, epochs=2))
    done = call_tool('train', config, '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def bad_file(tmp_path, trained):
    """Make a bad checkpoint of the kind asked for."""

    def make(kind: str) -> Path:
        path, good = tmp_path / f'{kind}.pth', trained / 'run' / 'epoch_2.pth'
        if kind == 'other':
            model = MODELS.build(moco_config(vit_config(width=32, in_channels=1)))
            content = {'state_dict': model.state_dict(), 'meta': {'epoch': 1, 'iter': 2}, 'optimizer': {}}
            save_atomically(content, path)
        elif kind == 'truncated':
            path.write_bytes(good.read_bytes()[:-1000])
        elif kind == 'code':
            torch.save({**load(good), 'surprise': RunsCode(tmp_path / 'executed')}, path)
        elif kind == 'old_code':  # a bare pickle, as torch wrote before its zip files
            path.write_bytes(pickle.dumps({'state_dict': RunsCode(tmp_path / 'executed')}, protocol=2))
        elif kind == 'text':
            path.write_text('<html>404</html>')
        return path

    return make


def nothing_written(folder: Path) -> None:
    """No result, whole or in part, lies in a work directory."""
    left = [path for path in folder.rglob('*') if path.suffix in ('.pth', '.tmp') or path.name == 'test.json']
    assert left == []


def train(folder: Path, content: dict, *options: str) -> Outcome:
    config = write_config(folder / 'config.py', content)
    return call_tool('train', config, '--work-dir', folder / 'run', *options)


# ---------------------------------------------------------------- checkpoints
SAYS = {
    'other': r'does not fit this (model|backbone): .*has shape \(1, 1, 32\)',
    'truncated': 'is damaged or not a PyTorch file',
    'code': r'was not read: it would run code while being read \(\S+mkdir\)',
    'old_code': r'was not read: it would run code while being read \(\S+mkdir\)',
    'text': 'is damaged or not a PyTorch file',
}


@pytest.mark.parametrize('use', ['resume', 'graft', 'test'])
@pytest.mark.parametrize('kind', SAYS)
def test_bad_checkpoints(kind, use, bad_file, trained, tmp_path):
    file, config = bad_file(kind), trained / 'cl.py'
    if use == 'resume':
        done = call_tool('train', config, '--work-dir', tmp_path / 'run', '--resume', file, *fresh_name())
    elif use == 'graft':
        done = train(tmp_path, tiny_config('lgp', model=dict(graft=[dict(checkpoint=str(file))])), *fresh_name())
    else:
        done = call_tool('test', config, file, '--work-dir', tmp_path / 'run')
    message = done.error()
    assert message.startswith((f'checkpoint {file} ', f'{file} '))
    assert re.search(SAYS[kind], message), message
    assert not (tmp_path / 'executed').exists()
    nothing_written(tmp_path / 'run')


def test_the_advice_about_a_file_that_would_run_code_fits_the_tool(bad_file, trained, tmp_path):
    file, config, executed = bad_file('code'), trained / 'cl.py', tmp_path / 'executed'
    options = ['--work-dir', tmp_path / 'run', '--protocols', 'knn']
    message = call_tool('test', config, file, *options).error()
    (advised,) = re.findall(r'--cfg-options (\S+=True)', message)
    assert call_tool('test', config, file, *options, '--cfg-options', advised).code == 0
    executed.rmdir()
    (advised,) = re.findall(r'tools/(\S+)\.py (--unsafe-pickle)', message)
    target = tmp_path / 'converted.pth'
    call = (advised[0], file, target, '--to', 'mmpretrain')
    assert call_tool(*call, advised[1]).code == 0
    executed.rmdir()
    assert call_tool('test', config, target, *options).code == 0
    message = call_tool('model_converters/convert', *call[1:], '--overwrite').error()
    assert '--unsafe-pickle' in message
    message = call_tool('train', config, '--work-dir', tmp_path / 'other', '--resume', file, *fresh_name()).error()
    assert 'unsafe' not in message
    assert not executed.exists()


def test_a_config_text_inside_a_checkpoint_is_not_executed(trained, tmp_path):
    """mmengine's own resume runs the text under ``meta.config`` as a config file."""
    content = load(trained / 'run' / 'epoch_1.pth')
    content['meta']['config'] = f'import os\nos.mkdir({str(tmp_path / "executed")!r})\n'
    save_atomically(content, tmp_path / 'start.pth')
    options = ['--work-dir', tmp_path / 'run', '--resume', tmp_path / 'start.pth', *fresh_name()]
    done = call_tool('train', trained / 'cl.py', *options)
    assert done.code == 0, done.err
    assert (tmp_path / 'run' / 'epoch_2.pth').is_file()
    assert not (tmp_path / 'executed').exists()


def test_a_missing_checkpoint(trained, tmp_path):
    for arguments in (
        ('train', trained / 'cl.py', '--resume', tmp_path / 'none.pth'),
        ('test', trained / 'cl.py', tmp_path / 'none.pth'),
    ):
        message = call_tool(*arguments, '--work-dir', tmp_path / 'run').error()
        assert str(tmp_path / 'none.pth') in message
        assert 'no such file' in message or 'does not exist' in message
    nothing_written(tmp_path)


def test_resuming_with_another_lr_list_is_refused_before_training(trained, tmp_path):
    config = write_config(tmp_path / 'lgp.py', tiny_config('lgp', images=16, epochs=2))
    options = ['--work-dir', tmp_path / 'run', '--resume', trained / 'run' / 'epoch_1.pth', *fresh_name()]
    message = call_tool('train', config, *options).error()
    assert 'learning rates was [0.001], now it is [0.0001, ' in message
    nothing_written(tmp_path / 'run')


# ---------------------------------------------------------------- data
PLAIN = [
    dict(type='LoadImage', channels=1),
    dict(type='TwoViews', view1=[dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16)]),
    dict(type='mmpretrain.PackInputs'),
]


def folder_config(root: Path, **options) -> dict:
    dataset = dict(type='ImageFolder', data_root=str(root), pipeline=PLAIN, **options)
    content = tiny_config('cl', batch=4, epochs=1)
    content['train_dataloader']['dataset'] = dataset
    return content


def images(root: Path, good: int, corrupt: int = 0) -> Path:
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(good):
        Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8)).save(root / f'good_{number}.png')
    for number in range(corrupt):
        (root / f'bad_{number}.png').write_bytes((root / 'good_0.png').read_bytes()[:60])
    return root


def test_an_empty_folder_and_a_missing_one(tmp_path):
    root = images(tmp_path / 'images', 0)
    message = train(tmp_path, folder_config(root)).error()
    assert message.startswith(f"no image below '{root}")
    message = train(tmp_path, folder_config(tmp_path / 'none')).error()
    assert f"'{tmp_path / 'none'}" in message
    assert 'does not exist' in message
    nothing_written(tmp_path / 'run')


def test_corrupt_images_are_skipped_and_counted(tmp_path):
    root = images(tmp_path / 'images', good=6, corrupt=2)
    done = train(tmp_path, folder_config(root), *fresh_name())
    assert done.code == 0, done.err
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert '2 unreadable images were skipped' in log.read_text()
    for name in ('bad_0.png', 'bad_1.png'):
        assert f'{root / name} cannot be read' in log.read_text()


def test_corrupt_images_are_refused_if_so_configured(tmp_path):
    root = images(tmp_path / 'images', good=6, corrupt=2)
    message = train(tmp_path, folder_config(root, on_corrupt='raise')).error()
    assert message.startswith(str(root / 'bad_'))
    assert 'cannot be read' in message
    nothing_written(tmp_path / 'run')


def test_fewer_images_than_a_batch(tmp_path):
    message = train(tmp_path, tiny_config('cl', images=5)).error()
    assert message.startswith('the training data has 5 images, fewer than one batch of 8')
    nothing_written(tmp_path / 'run')


# ---------------------------------------------------------------- configs
CONFIG_FAULTS = {
    'section': (dict(model=dict(backbone=dict(img_sise=16))), "unknown key 'model.backbone.img_sise'", "'img_size'"),
    'algorithm': (dict(model=dict(base_momentm=0.9)), "unknown key 'model.base_momentm'", "'base_momentum'"),
    'top': (dict(train_dataloder=dict()), "unknown key 'train_dataloder'", "'train_dataloader'"),
    'rule': (
        dict(optim_wrapper=dict(paramwise_cfg=dict(lr_layerwise=[1.0]))),
        "paramwise_cfg.lr_layerwise'",
        "'lr_layer_wise'",
    ),
    'type': (dict(model=dict(type='MoCov3')), "'model.type'", 'MoCoV3'),
    'lr list': (
        dict(optim_wrapper=dict(paramwise_cfg=dict(_delete_=True, lr_layer_wise=[0.1, 1.0]))),
        'lr_layer_wise has 2 values, which do not divide the 3 blocks',
        'divides 3',
    ),
    'range': (
        dict(model=dict(graft=[dict(checkpoint='some.pth', layers=(2, 4))])),
        'graft range layers=(2, 4) of some.pth does not fit a backbone of 3 blocks',
        'stop <= 3',
    ),
    'l1': (dict(model=dict(l1_distance=dict(weight=1.0, to_block=1))), 'needs graft', ''),
    'frozen': (dict(model=dict(frozen_layers=4)), 'frozen_layers=4 is outside 0..3', ''),
    'patch': (dict(model=dict(backbone=dict(patch_size=5))), 'img_size 16 is not a multiple of patch_size 5', ''),
    'keep one': (dict(default_hooks=dict(checkpoint=dict(max_keep_ckpts=1))), 'max_keep_ckpts=1 would delete', 'use 2'),
    'batch of one': (
        dict(train_dataloader=dict(batch_size=1)),
        'batch norm need',
        'batch_size',
    ),
}


@pytest.mark.parametrize(('options', 'says', 'advises'), CONFIG_FAULTS.values(), ids=CONFIG_FAULTS)
def test_faulty_configs(options, says, advises, tmp_path):
    content = tiny_config('cl', images=16)
    if 'paramwise_cfg' in options.get('optim_wrapper', {}):
        content['optim_wrapper'].pop('paramwise_cfg')
        options['optim_wrapper']['paramwise_cfg'].pop('_delete_', None)
    message = train(tmp_path, merged(content, options), *fresh_name()).error()
    assert says in message
    assert advises in message
    nothing_written(tmp_path / 'run')


@pytest.mark.parametrize(
    ('option', 'suggestion'),
    [
        ('optim_wrapper.optimizer.lrr=1', "'lr'"),
        ('model.bakbone.img_size=8', "'backbone'"),
        ('train_cfg.max_epoch=3', "'max_epochs'"),
    ],
)
def test_mistyped_options(option, suggestion, trained, tmp_path):
    message = call_tool('train', trained / 'cl.py', '--work-dir', tmp_path / 'run', '--cfg-options', option).error()
    assert "unknown key '" in message
    assert 'did you mean' in message
    assert suggestion in message
    assert not (tmp_path / 'run').exists()


def test_missing_and_broken_config_files(tmp_path):
    assert 'config none.py does not exist' in call_tool('train', 'none.py').error()
    for name, text in {'syntax': 'model = dict(', 'name': 'model = x', 'base': "_base_ = './gone.py'"}.items():
        path = tmp_path / f'{name}.py'
        path.write_text(text)
        assert f'config {path} cannot be read' in call_tool('train', path, '--work-dir', tmp_path / 'run').error()
    assert not (tmp_path / 'run').exists()


def test_a_config_without_evaluation_cannot_be_scored(trained, tmp_path):
    content = tiny_config('cl')
    del content['evaluation']
    config = write_config(tmp_path / 'bare.py', content)
    message = call_tool('test', config, trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path / 'run').error()
    assert 'no `evaluation` section' in message
    content['evaluation'] = dict(train=digits('train', []), tests=digits('test', []))
    config = write_config(tmp_path / 'typo.py', content)
    message = call_tool('test', config, trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path / 'run').error()
    assert "unknown key 'evaluation.tests'" in message


# ---------------------------------------------------------------- processes of their own
def test_a_process_prints_the_one_line_and_leaves_nothing(trained, bad_file, tmp_path):
    run = tmp_path / 'run'
    typo = run_tool_process('train', trained / 'cl.py', '--work-dir', run, '--cfg-options', 'model.nec=3')
    code = run_tool_process('test', trained / 'cl.py', bad_file('code'), '--work-dir', run)
    for done, says in ((typo, "did you mean 'neck'?"), (code, 'it would run code')):
        assert says in done.error()
        assert done.err.count('\n') == 1
    assert not run.exists()
    assert not (tmp_path / 'executed').exists()


def test_the_origin_of_an_error_can_be_seen(tmp_path):
    done = run_tool_process('train', 'none.py', GRAFT_TRACEBACK='1')
    assert done.code == 1
    assert 'Traceback' in done.err
    assert 'ConfigError' in done.err
