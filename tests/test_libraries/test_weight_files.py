"""No way of mmengine, mmpretrain, mmcv, timm or torch.hub to a file of weights runs code that the file holds."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import mmengine.runner.checkpoint as files
import pytest
import torch
from helpers import build, mae_config, vit_config
from mmengine.model import BaseModel, BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from torch import nn
from torch.utils.data import DataLoader

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.engine.resuming.resume import read_plain
from mmselfsup_graft.engine.runners.pretrained import load_pretrained, take_pretrained
from mmselfsup_graft.errors import CheckpointError, ConfigError, GraftError
from mmselfsup_graft.libraries.weight_files import is_address, safe_torch_load
from mmselfsup_graft.models.foreign_weights import is_pretrained_init


class RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.marker),))


class Fitted(BaseModel):
    """A model that a runner of mmengine can train."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs: torch.Tensor, target: torch.Tensor, mode: str = 'loss') -> dict[str, torch.Tensor]:
        return {'loss': (self.linear(inputs) - target).square().mean()}


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A file that fits where a state dict is expected, and runs code when it is unpickled."""
    content = {
        'state_dict': {'weight': torch.zeros(2, 2), 'bias': torch.zeros(2)},
        'x': RunsCode(tmp_path / 'executed'),
    }
    torch.save(content, tmp_path / 'hostile.pth')
    return str(tmp_path / 'hostile.pth')


def test_the_file_is_hostile(hostile: str, tmp_path: Path) -> None:
    """Otherwise what follows would hold whatever is done."""
    torch.load(hostile, weights_only=False)
    assert (tmp_path / 'executed').exists()


class Asking(BaseModule):
    """A part that asks mmengine for its weights."""

    def __init__(self, init_cfg: Any) -> None:
        super().__init__(init_cfg)
        self.linear = nn.Linear(2, 2)


def _by_init(kind: Any, **options: Any) -> Callable[[str], Any]:
    return lambda file: Asking({'type': kind, 'checkpoint': file, **options}).init_weights()


def _override(file: str) -> None:
    entry = {'type': 'Pretrained', 'name': 'linear', 'checkpoint': file}
    Asking({'type': 'Constant', 'layer': 'Linear', 'val': 1, 'override': entry}).init_weights()


def _plain_runner(file: str) -> None:
    runner: Any = object.__new__(Runner)
    runner.model, runner._hooks = nn.Linear(2, 2), []
    runner.load_checkpoint(file)


def _get_model(file: str) -> None:
    from mmpretrain import get_model

    get_model('resnet18_8xb32_in1k', pretrained=file)


def _of_mmcv(file: str) -> None:
    from mmcv.cnn.resnet import ResNet

    ResNet(18).init_weights(file)


def _timm(file: str) -> None:
    timm = importlib.import_module('timm')
    timm.create_model('resnet10t', checkpoint_path=file)


ROUTES: dict[str, Callable[[str], Any]] = {
    'load_checkpoint': lambda file: load_checkpoint(nn.Linear(2, 2), file),
    '_load_checkpoint': lambda file: files._load_checkpoint(file),
    'with prefix': lambda file: files._load_checkpoint_with_prefix('weight', file),
    'loader': lambda file: CheckpointLoader.load_checkpoint(file, map_location='cpu', logger=None),
    'local': lambda file: files.load_from_local(file, None),
    'safe_torch_load': lambda file: files._safe_torch_load(file),
    'explicitly unsafe': lambda file: files._safe_torch_load(file, weights_only=False),
    'scheme of the loader': lambda file: CheckpointLoader._get_checkpoint_loader(file)(file, None),
    'Runner': _plain_runner,
    'Pretrained': _by_init('Pretrained'),
    'mmengine.Pretrained': _by_init('mmengine.Pretrained'),
    'class': _by_init(PretrainedInit),
    'dotted': _by_init('mmengine.model.PretrainedInit'),
    'with a prefix': _by_init('Pretrained', prefix='backbone.'),
    'override': _override,
    'get_model': _get_model,
    'mmcv': _of_mmcv,
    'timm': _timm,
}


@pytest.mark.parametrize('route', ROUTES)
def test_no_route_runs_code(route: str, hostile: str, tmp_path: Path) -> None:
    with pytest.raises((GraftError, RuntimeError)) as refused:
        ROUTES[route](hostile)
    assert not (tmp_path / 'executed').exists()
    if route != 'timm':  # it has its own words
        assert 'would run code while being read' in str(refused.value)


def test_torch_reads_weights_alone_meanwhile(hostile: str, tmp_path: Path) -> None:
    with safe_torch_load():
        for read in (
            lambda: torch.load(hostile, weights_only=False),
            lambda: torch.hub.load_state_dict_from_url(f'file://{hostile}', model_dir=str(tmp_path)),
        ):
            with pytest.raises(Exception, match=r'mkdir|Weights only') as refused:
                read()
            assert not isinstance(refused.value, FileExistsError)
        with pytest.raises(CheckpointError, match='are an address'):
            torch.hub.load_state_dict_from_url(f'file://{hostile}', model_dir=str(tmp_path / 'hub'))
        assert not (tmp_path / 'executed').exists()
        read_checkpoint(hostile, unsafe_pickle=True)  # said so in a graft
        assert (tmp_path / 'executed').exists()


@pytest.mark.parametrize(
    'address',
    [
        'http://example.org/a.pth',
        'https://example.org/a.pth',
        'torchvision://resnet50',
        'modelzoo://resnet50',
        'open-mmlab://resnet50',
        'openmmlab://resnet50',
        'mmcls://resnet50',
        's3://bucket/a.pth',
        'open-mmlab:s3://bucket/a.pth',
        'petrel://a.pth',
        'pavi://a',
        'file:///a.pth',
    ],
)
def test_addresses_are_refused(address: str) -> None:
    assert is_address(address)
    for read in (ROUTES['loader'], ROUTES['load_checkpoint'], ROUTES['Pretrained'], read_plain):
        with pytest.raises(CheckpointError, match='Download the file'):
            read(address)
    (part,) = take_pretrained(Asking({'type': 'Pretrained', 'checkpoint': address}))
    with pytest.raises(CheckpointError, match='Download the file'):
        load_pretrained(part)


def test_paths_are_no_addresses() -> None:
    assert not any(map(is_address, ('a.pth', '/a/b.pth', './a:b/c.pth', 'C:x', None)))


def test_good_files_arrive_without_texts(tmp_path: Path) -> None:
    source = nn.Linear(2, 2)
    meta = {'cfg': 'text', 'config': 'text', 'classes': ['a']}
    hub = {'log_scalars': {}, 'runtime_info': {'cfg': 'text', 'epoch': 3}, 'resumed_keys': {}}
    torch.save({'state_dict': source.state_dict(), 'meta': meta, 'message_hub': hub}, tmp_path / 'good.pth')
    target = nn.Linear(2, 2)
    content = load_checkpoint(target, str(tmp_path / 'good.pth'), map_location='cpu')
    assert torch.equal(target.weight, source.weight)
    assert content['meta'] == {'classes': ['a']}
    assert content['message_hub']['runtime_info'] == {'epoch': 3}
    module = Asking({'type': 'Constant', 'layer': 'Linear', 'val': 1, 'bias': 0})
    torch.save(module.state_dict(), tmp_path / 'bare.pth')
    loaded = Asking({'type': 'Pretrained', 'checkpoint': str(tmp_path / 'bare.pth')})
    loaded.init_weights()
    assert torch.equal(loaded.linear.weight, module.linear.weight)


def test_names_of_files_to_delete_do_not_arrive(tmp_path: Path) -> None:
    info = {'best_ckpt': '/etc/passwd', 'best_ckpt_acc': '/etc/hosts', 'last_ckpt': '/a'}
    hub = {'runtime_info': {**info, 'best_score': 0.5, 'keep_ckpt_ids': [3, 4]}}
    torch.save({'state_dict': {'a': torch.ones(1)}, 'message_hub': hub}, tmp_path / 'file.pth')
    content = CheckpointLoader.load_checkpoint(str(tmp_path / 'file.pth'))
    assert content['message_hub']['runtime_info'] == {'best_score': 0.5, 'keep_ckpt_ids': [3, 4]}


@pytest.mark.parametrize('steps', [['/../a'], [1.0], [True], [-1], '/etc', {'a': 1}, [[1]], None, torch.arange(2)])
def test_other_numbers_of_checkpoints_are_refused(steps: object, tmp_path: Path) -> None:
    hub = {'runtime_info': {'keep_ckpt_ids': steps}}
    torch.save({'state_dict': {'a': torch.ones(1)}, 'message_hub': hub}, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=r'file\.pth cannot be used: its message_hub'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'file.pth'))


def test_a_resumed_run_of_mmengine_deletes_as_many_checkpoints_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    data = [(torch.ones(1, 2), torch.ones(1))] * 2

    def trained(folder: Path, epochs: int, resume: bool = False) -> list[str]:
        names = dict(default_scope='mmselfsup_graft', experiment_name=uuid4().hex)
        options = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), resume=resume, **names)
        hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))
        loader = DataLoader(data, batch_size=1)
        loop = dict(by_epoch=True, max_epochs=epochs)
        Runner(Fitted(), str(folder), loader, train_cfg=loop, default_hooks=hooks, **options).train()
        return sorted(path.name for path in folder.glob('*.pth'))

    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert trained(parts, 2) == ['epoch_1.pth', 'epoch_2.pth']
    assert trained(parts, 4, resume=True) == trained(whole, 4) == ['epoch_3.pth', 'epoch_4.pth']


BAD_WEIGHTS: dict[str, Any] = {
    'nan': torch.tensor([[float('nan'), 1.0], [0.0, 0.0]]),
    'complex': torch.zeros(2, 2, dtype=torch.complex64),
    'bool': torch.zeros(2, 2, dtype=torch.bool),
    'float8': torch.zeros(2, 2).to(torch.float8_e4m3fn),
    'text': 'zeros',
    'nothing': None,
}


@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
@pytest.mark.parametrize('kind', BAD_WEIGHTS)
def test_bad_weights_do_not_arrive(kind: str, key: str | None, tmp_path: Path) -> None:
    state = {'weight': BAD_WEIGHTS[kind], 'bias': torch.zeros(2)}
    torch.save({key: state} if key else state, tmp_path / 'bad.pth')
    with pytest.raises(CheckpointError, match=r'bad\.pth cannot be used: weight '):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'))


def test_buffers_of_whole_numbers_arrive(tmp_path: Path) -> None:
    norm = nn.BatchNorm1d(2)
    norm.num_batches_tracked += 3
    norm.register_buffer('relative_position_index', torch.arange(4))
    norm.register_buffer('mask', torch.tensor([True, False]))
    torch.save(norm.state_dict(), tmp_path / 'file.pth')
    content = CheckpointLoader.load_checkpoint(str(tmp_path / 'file.pth'))
    assert all(torch.equal(content[name], value) for name, value in norm.state_dict().items())


def test_a_counter_is_a_number(tmp_path: Path) -> None:
    torch.save({'bn.num_batches_tracked': torch.tensor(3j)}, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=r'num_batches_tracked is of type complex64, expected whole numbers'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'file.pth'))


class Derived(PretrainedInit):
    pass


def test_the_class_decides_what_reads_a_file() -> None:
    for kind in ('Pretrained', 'mmengine.Pretrained', 'mmdet.Pretrained', 'mmseg.Pretrained', 'mmpretrain.Pretrained'):
        assert is_pretrained_init({'type': kind}), kind
    for kind in (PretrainedInit, Derived, 'mmengine.model.PretrainedInit', 'mmengine.model.weight_init.PretrainedInit'):
        assert is_pretrained_init({'type': kind}), kind
    for kind in ('Constant', 'mmengine.Kaiming', nn.Linear, None, 3, 'nowhere.at.All'):
        assert not is_pretrained_init({'type': kind}), kind
    assert not is_pretrained_init('Pretrained')


@pytest.mark.parametrize(
    'entry',
    [
        {'init_cfg': {'type': 'mmdet.Pretrained', 'checkpoint': 'a.pth'}},
        {'init_cfg': [[{'type': PretrainedInit, 'checkpoint': 'a.pth'}]]},
        {'init_cfg': {'type': 'Constant', 'override': {'type': 'mmseg.Pretrained', 'name': 'a', 'checkpoint': 'x'}}},
        {'pretrained': 'torchvision://resnet50'},
        {'pretrained': True},
        {'checkpoint_path': 'a.pth'},
    ],
)
def test_our_own_models_take_no_weights_but_by_a_graft(entry: dict[str, Any]) -> None:
    config = mae_config(vit_config())
    config['backbone'] = {**config['backbone'], **entry}
    with pytest.raises(ConfigError, match=r'model\.graft'):
        build(config)
