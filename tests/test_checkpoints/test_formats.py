"""Which format a file has, what is taken out of it, and under which names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, mae_config, moco_config, vit_config

from mmselfsup_graft.checkpoints import (
    MAE_MODEL,
    MOCOV3_MODEL,
    VIT_TIMM,
    Encoder,
    RenameTable,
    read_encoder,
    to_encoder,
    unwrap_state_dict,
)
from mmselfsup_graft.errors import CheckpointError

State = dict[str, torch.Tensor]


def _numbered(state: State) -> State:
    """Every tensor filled with its own number, so that a mix-up is seen."""
    return {name: torch.full_like(value, i) for i, (name, value) in enumerate(state.items())}


@pytest.fixture(scope='module')
def moco() -> State:
    """Tensors of a MoCoV3 of ours."""
    return _numbered(build(moco_config()).state_dict())


@pytest.fixture(scope='module')
def mae() -> State:
    """Tensors of an MAE of ours."""
    return _numbered(build(mae_config()).state_dict())


def _foreign(state: State, table: RenameTable, prefix: str = '') -> State:
    return {prefix + table.from_canonical(name): value for name, value in state.items()}


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _check(found: Encoder, name: str, wanted: State, file: State) -> None:
    assert found.format == name
    assert set(found.state) == set(wanted)
    assert all(torch.equal(found.state[key], wanted[key]) for key in wanted)
    assert len(found.state) + len(found.dropped) == len(file), 'every tensor is kept or dropped, once'
    assert set(found.dropped) <= set(file)


@pytest.mark.parametrize('wrapper', ['', 'model', 'state_dict', 'module'])
def test_mae_with_decoder(mae: State, wrapper: str, tmp_path: Path) -> None:
    file = _foreign(mae, MAE_MODEL)
    torch.save({wrapper: file, 'epoch': 3} if wrapper else file, tmp_path / 'mae.pth')
    _check(read_encoder(tmp_path / 'mae.pth'), 'mae', _part(mae, 'backbone.'), file)


def test_mae_encoder_only_and_with_module_prefix(mae: State) -> None:
    encoder = _part(mae, 'backbone.')
    for prefix in ('', 'module.'):
        file = _foreign(encoder, VIT_TIMM, prefix)
        _check(to_encoder(file, 'file'), 'timm', encoder, file)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_mocov3(moco: State, prefix: str, branch: str) -> None:
    file = _foreign(moco, MOCOV3_MODEL, prefix)
    content = {'epoch': 1, 'arch': 'vit_base', 'state_dict': file, 'optimizer': {'state': {}}}
    wanted = _part(moco, 'backbone.' if branch == 'base' else 'momentum_encoder.backbone.')
    _check(to_encoder(content, 'file', branch=branch), 'mocov3', wanted, file)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_mocov3_resnet(prefix: str, branch: str) -> None:
    encoder = _numbered(build({'type': 'mmpretrain.ResNet', 'depth': 18}).state_dict())
    file = {f'{prefix}base_encoder.{k}': v for k, v in encoder.items()}
    file |= {f'{prefix}momentum_encoder.{k}': v + 1000 for k, v in encoder.items()}
    file |= {f'{prefix}{k}': torch.zeros(1) for k in ('base_encoder.fc.0.weight', 'momentum_encoder.fc.0.weight')}
    file[f'{prefix}predictor.0.weight'] = torch.zeros(1)
    wanted = encoder if branch == 'base' else {k: v + 1000 for k, v in encoder.items()}
    _check(to_encoder({'state_dict': file}, 'file', branch=branch), 'mocov3-resnet', wanted, file)


@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_own_checkpoint(moco: State, branch: str) -> None:
    wanted = _part(moco, 'backbone.' if branch == 'base' else 'momentum_encoder.backbone.')
    _check(to_encoder({'meta': {}, 'state_dict': moco}, 'file', branch=branch), 'openmmlab', wanted, moco)


@pytest.mark.parametrize(
    'backbone',
    [
        vit_config(),
        {'type': 'mmpretrain.ResNet', 'depth': 18},
        {'type': 'mmpretrain.ConvNeXt', 'arch': {'depths': [1, 1, 1, 1], 'channels': [4, 8, 8, 8]}},
    ],
    ids=['vit', 'resnet', 'convnext'],
)
def test_mmpretrain_bare_and_as_classifier(backbone: dict[str, Any]) -> None:
    encoder = _numbered(build(backbone).state_dict())
    bare = {**encoder, 'head.fc.weight': torch.zeros(1)}
    _check(to_encoder(bare, 'file'), 'mmpretrain', encoder, bare)
    classifier = {f'backbone.{k}': v for k, v in encoder.items()} | {'head.fc.weight': torch.zeros(1)}
    _check(to_encoder({'state_dict': classifier}, 'file'), 'openmmlab', encoder, classifier)


def test_unknown_format_is_one_clear_error() -> None:
    with pytest.raises(CheckpointError) as caught:
        to_encoder({'features.0.weight': torch.zeros(1)}, 'some.pth')
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith('some.pth is not one of the known formats')
    assert all(name in message for name in ('mae', 'mocov3', 'mocov3-resnet', 'openmmlab', 'mmpretrain', 'features.0'))


def test_file_without_tensors() -> None:
    with pytest.raises(CheckpointError, match='no tensors at all'):
        to_encoder({'epoch': 1}, 'some.pth')


def test_asked_for_another_format(mae: State) -> None:
    with pytest.raises(CheckpointError, match='is not a checkpoint of format mocov3'):
        to_encoder(_foreign(mae, MAE_MODEL), 'some.pth', wanted='mocov3')
    with pytest.raises(CheckpointError, match="unknown checkpoint format 'mocov9'"):
        to_encoder(_foreign(mae, MAE_MODEL), 'some.pth', wanted='mocov9')


def test_branch_that_the_file_lacks(mae: State, moco: State) -> None:
    with pytest.raises(CheckpointError, match='has no momentum encoder'):
        to_encoder(_foreign(mae, MAE_MODEL), 'some.pth', branch='momentum')
    base_only = {k: v for k, v in moco.items() if not k.startswith('momentum_encoder.')}
    with pytest.raises(CheckpointError, match='holds no tensors of a momentum encoder'):
        to_encoder({'state_dict': base_only}, 'some.pth', branch='momentum')


def test_only_tensors_are_taken_out() -> None:
    content = {'epoch': 3, 'state_dict': {'a': torch.ones(2), 'note': 'text'}, 'model': {'b': torch.ones(1)}}
    assert list(unwrap_state_dict(content)) == ['a']
    assert list(unwrap_state_dict({'c': torch.ones(1), 'epoch': 1})) == ['c']
