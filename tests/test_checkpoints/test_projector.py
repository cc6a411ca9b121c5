"""The first layer of a projector in files of every format that has one."""

import pytest
import torch
from helpers import build, mae_config, moco_config, multi_task_config, vit_config

from mmselfsup_graft.checkpoints import MOCOV3_MODEL, read_projector_start, to_encoder
from mmselfsup_graft.checkpoints.projector import to_projector_start
from mmselfsup_graft.errors import CheckpointError

NORM = {'weight', 'bias', 'running_mean', 'running_var'}


@pytest.fixture(scope='module')
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model = build(moco_config(vit_config(depth=2), hidden=24))
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_()  # so that momentum and base differ
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize('official', [True, False])
@pytest.mark.parametrize('branch', ['base', 'momentum'])
@pytest.mark.parametrize('wrapper', ['', 'module.'])
def test_found_in_both_branches(state, branch, official, wrapper, tmp_path) -> None:
    if wrapper and not official:
        return
    names = MOCOV3_MODEL.from_canonical if official else str
    torch.save({'state_dict': {wrapper + names(k): v for k, v in state.items()}}, tmp_path / 'file.pth')
    start = read_projector_start(tmp_path / 'file.pth', branch=branch)
    neck = 'neck' if branch == 'base' else 'momentum_encoder.neck'
    assert torch.equal(start.weight, state[f'{neck}.fc0.weight'])
    assert start.norm is not None
    assert set(start.norm) == NORM
    assert all(torch.equal(value, state[f'{neck}.bn0.{part}']) for part, value in start.norm.items())
    assert start.format == ('mocov3' if official else 'openmmlab')


def test_resnet_projector_lies_on_fc(tmp_path) -> None:
    weight = torch.rand(6, 4)
    file = {'module.base_encoder.layer1.0.conv1.weight': torch.rand(1), 'module.base_encoder.fc.0.weight': weight}
    torch.save({'state_dict': file}, tmp_path / 'r50.pth')
    start = read_projector_start(tmp_path / 'r50.pth')
    assert torch.equal(start.weight, weight)
    assert (start.norm, start.format) == (None, 'mocov3-resnet')


def test_files_without_projector_are_refused(state, tmp_path) -> None:
    mae = build(mae_config(vit_config(depth=2))).state_dict()
    bare = {k.removeprefix('backbone.'): v for k, v in mae.items() if k.startswith('backbone.')}
    for name, content in {'mae': mae, 'bare': bare}.items():
        torch.save(content, tmp_path / f'{name}.pth')
        with pytest.raises(CheckpointError, match=rf'{name}\.pth .*holds no projector.*contrastive'):
            read_projector_start(tmp_path / f'{name}.pth')
    torch.save({**state, 'neck.fc0.bias': torch.zeros(24)}, tmp_path / 'bias.pth')
    with pytest.raises(CheckpointError, match='has a bias'):
        read_projector_start(tmp_path / 'bias.pth')
    with pytest.raises(CheckpointError, match='unknown checkpoint format'):
        read_projector_start(tmp_path / 'mae.pth', 'moko')


def test_a_multi_task_model_has_projector_and_momentum_encoder_in_an_objective() -> None:
    model = build(multi_task_config())
    torch.manual_seed(1)
    model.init_weights()
    state = model.state_dict()
    start = to_projector_start({'state_dict': state}, 'multi.pth')
    assert torch.equal(start.weight, state['objectives.cl.neck.fc0.weight'])
    assert start.norm is not None
    followed = to_projector_start({'state_dict': state}, 'multi.pth', branch='momentum')
    assert torch.equal(followed.weight, state['objectives.cl.momentum_encoder.neck.fc0.weight'])
    encoder = to_encoder({'state_dict': state}, 'multi.pth', branch='momentum')
    assert set(encoder.state) == set(model.backbone.state_dict())
    twice = {**state, **{name.replace('.cl.', '.cl2.'): value for name, value in state.items() if '.cl.' in name}}
    with pytest.raises(CheckpointError, match=r'several encoders.*objectives'):
        to_encoder({'state_dict': twice}, 'multi.pth', branch='momentum')
