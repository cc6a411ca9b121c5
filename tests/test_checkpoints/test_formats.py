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


# ---------------------------------------------------------------- layouts of other projects
def _vit(prefix: str = '') -> State:
    """Names of a small ViT as timm gives them."""
    return _foreign(_numbered(build(vit_config()).state_dict()), VIT_TIMM, prefix)


@pytest.mark.parametrize('parallel', ['', 'module.'])
def test_self_distillation(parallel: str) -> None:
    student, teacher = (_vit(f'{parallel}backbone.') for _ in range(2))
    head = {f'{parallel}head.mlp.0.weight': torch.zeros(1)}
    content = {'student': {**student, **head}, 'teacher': {n: v + 500 for n, v in teacher.items()} | head, 'epoch': 1}
    for wanted in ('dino', 'ibot', 'auto'):
        found = to_encoder(content, 'file', wanted)
        assert (found.format, found.branch) == ('ibot', 'teacher')
        assert torch.equal(found.state['cls_token'], student[f'{parallel}backbone.cls_token'] + 500)
        assert set(found.dropped) == set(head)
    assert torch.equal(
        to_encoder(content, 'file', branch='student').state['cls_token'], student[f'{parallel}backbone.cls_token']
    )
    with pytest.raises(CheckpointError, match='no base encoder; use branch="teacher" or branch="student"'):
        to_encoder(content, 'file', branch='base')
    with pytest.raises(CheckpointError, match=r'its tensors are named resnet\.conv1'):
        to_encoder({'student': {'resnet.conv1': torch.zeros(1)}, 'teacher': {}}, 'file')


def test_backbone_files_of_self_distillation() -> None:
    content = {'state_dict': {**_vit(), 'masked_embed': torch.zeros(1)}}
    found = to_encoder(content, 'file', 'ibot')
    assert found.format == 'timm'
    assert found.dropped == ('masked_embed',)


def test_simmim_vit_with_a_shared_table() -> None:
    encoder = {n: v for n, v in _vit('encoder.').items() if n != 'encoder.pos_embed'}
    encoder['encoder.rel_pos_bias.relative_position_bias_table'] = torch.zeros(3, 2)
    beside = {'encoder.mask_token': torch.zeros(1), 'decoder.0.weight': torch.zeros(1)}
    found = to_encoder({'model': {**encoder, **beside}, 'max_accuracy': 0.0}, 'file')
    assert found.format == 'simmim'
    assert set(found.dropped) == set(beside)
    assert 'rel_pos_bias.relative_position_bias_table' in found.state
    assert 'layers.0.ln1.weight' in found.state


def test_simmim_swin() -> None:
    block = 'encoder.layers.0.blocks.1.attn'
    state = {
        'encoder.patch_embed.proj.weight': torch.zeros(1),
        'encoder.layers.0.blocks.0.attn.relative_position_bias_table': torch.zeros(1),
        f'{block}.qkv.weight': torch.zeros(1),
        'encoder.layers.0.blocks.1.attn_mask': torch.zeros(1),
        'encoder.layers.0.downsample.reduction.weight': torch.arange(8.0)[None],
        'encoder.mask_token': torch.zeros(1),
        'decoder.0.weight': torch.zeros(1),
    }
    found = to_encoder({'model': state}, 'file', 'simmim')
    assert found.format == 'simmim-swin'
    assert set(found.dropped) == {'encoder.layers.0.blocks.1.attn_mask', 'encoder.mask_token', 'decoder.0.weight'}
    assert 'stages.0.blocks.1.attn.w_msa.qkv.weight' in found.state
    # quarters (0 1) (2 3) (4 5) (6 7), the second and third exchanged, interleaved
    assert found.state['stages.0.downsample.reduction.weight'].tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]


@pytest.mark.parametrize('prefix', ['', 'vit.'])
def test_huggingface(prefix: str) -> None:
    from mmselfsup_graft.checkpoints import convert

    plain = _numbered(build(vit_config()).state_dict())
    there = {prefix + n: v for n, v in convert(plain, 'file', 'hf').state.items()}
    beside = {f'{prefix}embeddings.mask_token': torch.zeros(1), f'{prefix}pooler.dense.weight': torch.zeros(1)}
    _check_names(to_encoder({**there, **beside}, 'file'), 'huggingface', plain, beside)


def test_swav_with_several_prototypes_and_extracted_a2mim() -> None:
    resnet = _numbered(build({'type': 'mmpretrain.ResNet', 'depth': 18}).state_dict())
    beside = {f'module.prototypes.prototypes{i}.weight': torch.zeros(1) for i in range(3)}
    state = {f'module.{n}': v for n, v in resnet.items()} | beside
    _check_names(to_encoder({'state_dict': state, 'amp': {}}, 'file'), 'swav', resnet, beside)
    extracted = {'state_dict': resnet, 'author': 'somebody'}
    _check_names(to_encoder(extracted, 'file', 'a2mim'), 'mmpretrain', resnet, {})


def _check_names(found: Encoder, name: str, wanted: State, beside: State) -> None:
    assert found.format == name
    assert set(found.dropped) == set(beside)
    assert found.state.keys() == wanted.keys()
    assert all(torch.equal(found.state[key], wanted[key]) for key in wanted)


def test_self_distilled_resnet_and_swin() -> None:
    resnet = {f'backbone.{n}': torch.zeros(1) for n in ('conv1.weight', 'layer1.0.conv1.weight', 'fc.bias')}
    found = to_encoder({'teacher': resnet, 'student': {f'module.{n}': v for n, v in resnet.items()}}, 'file', 'dino')
    assert (found.format, found.branch, set(found.state)) == (
        'dino-resnet',
        'teacher',
        {'conv1.weight', 'layer1.0.conv1.weight'},
    )
    block = 'backbone.layers.0.blocks'
    swin = {
        f'{block}.0.attn.relative_position_bias_table': torch.zeros(1),
        f'{block}.1.attn_mask': torch.zeros(1),
        'backbone.layers.0.downsample.reduction.weight': torch.arange(8.0)[None],
        'head.mlp.0.weight': torch.zeros(1),
    }
    found = to_encoder({'teacher': swin, 'epoch': 3}, 'file', 'ibot')
    assert found.format == 'ibot-swin'
    assert set(found.dropped) == {f'{block}.1.attn_mask', 'head.mlp.0.weight'}
    assert found.state['stages.0.downsample.reduction.weight'].tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]


def test_extracted_convolutional_stem_is_refused_by_its_name() -> None:
    state = {'blocks.0.attn.qkv.weight': torch.zeros(1), 'patch_embed.proj.0.weight': torch.zeros(1)}
    with pytest.raises(CheckpointError, match='convolutional stem'):
        to_encoder(state, 'file')
