"""Where an encoder lies in a file: keys above its tensors, prefixes of their names, several encoders."""

from collections.abc import Callable
from typing import Any

import plain_vit
import pytest
import torch

from mmselfsup_graft.checkpoints import convert, to_encoder
from mmselfsup_graft.errors import CheckpointError

State = dict[str, torch.Tensor]
WANTED = plain_vit.make()
OTHER = plain_vit.make(seed=1)


def under(prefix: str, state: State = WANTED) -> State:
    return {prefix + name: value for name, value in state.items()}


def same(content: dict[str, Any], wanted: State = WANTED, **kwargs: Any) -> bool:
    """Whether the encoder that is read gives the features of plain torch."""
    found = convert(content, 'file', 'timm', **kwargs).state
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


PREFIXES = [
    '_orig_mod.',
    'module._orig_mod.',
    '_orig_mod.module.',
    'module.module.',
    'model.',
    'model.model.',
    'model._orig_mod.encoder.',
    'net.',
    'backbone.',
    'model.encoder.',
    'module.backbone.',
    'encoder.backbone.',
    'student.backbone.',
    'teacher.',
    'momentum_backbone.',
    'trunk.',
    '0.',
    '_fsdp_wrapped_module.',
]


@pytest.mark.parametrize('prefix', PREFIXES)
def test_prefixes(prefix: str) -> None:
    assert same({'state_dict': under(prefix)})
    assert same(under(prefix))
    assert same({'model': {**under(prefix), 'head.weight': torch.zeros(1), 'loss.center': torch.zeros(1)}})


def test_compiled_blocks_inside_the_names() -> None:
    state = {n.replace('blocks.1.', 'blocks.1._orig_mod.'): v for n, v in WANTED.items()}
    found = convert({'state_dict': state}, 'file', 'timm')
    assert torch.equal(found.state['blocks.1.mlp.fc1.bias'], WANTED['blocks.1.mlp.fc1.bias'])
    assert ('blocks.1._orig_mod.mlp.fc1.bias', 'blocks.1.mlp.fc1.bias', 'identity') in found.rows


WRAPPERS = [
    'state_dict',
    'model',
    'module',
    'state_dict_ema',
    'model_ema',
    'model_state_dict',
    'net',
    'ema',
    'weights',
    'params',
    'teacher',
    'student',
    'ema_state_dict',
    'anything',
]


@pytest.mark.parametrize('key', WRAPPERS)
@pytest.mark.parametrize('nest', [False, True])
def test_keys_above_the_tensors(key: str, nest: bool) -> None:
    inner: dict[str, Any] = {key: WANTED}
    content = {'checkpoint': inner} if nest else inner
    optimizer = {'state': {0: {'exp_avg': torch.zeros(2)}}, 'param_groups': []}
    assert same({**content, 'epoch': 3, 'optimizer': optimizer, 'optimizer_named': {'blocks.0': torch.zeros(1)}})


@pytest.mark.parametrize(
    ('content', 'branches'),
    [
        ({'model': WANTED, 'model_ema': OTHER}, ['model_ema']),
        ({'state_dict_ema': OTHER, 'state_dict': WANTED}, ['state_dict_ema']),
        ({'net': WANTED, 'ema': OTHER}, ['ema']),
        ({'model': {**under('momentum_backbone.', OTHER), **under('backbone.')}}, ['momentum_backbone']),
        ({'state_dict': {**under('model_ema.', OTHER), **under('model.')}}, ['model_ema', 'model_ema.']),
        ({'state_dict': {**under('target_encoder.', OTHER), **under('encoder.')}}, ['target_encoder']),
        ({'state_dict': WANTED, 'model': OTHER}, ['model']),
    ],
)
def test_of_two_the_ordinary_one_is_taken_and_said(content: dict[str, Any], branches: list[str]) -> None:
    assert same(content)
    assert any(branches[0] in note for note in to_encoder(content, 'file').notes)
    for branch in branches:
        assert same(content, OTHER, branch=branch), branch


@pytest.mark.parametrize(
    ('content', 'names'),
    [
        ({'state_dict': {**under('student.'), **under('teacher.', OTHER)}}, ['student', 'teacher']),
        ({'a': WANTED, 'b': OTHER}, ['a', 'b']),
        ({'model': {**under('net1.'), **under('net2.', OTHER)}}, ['net1', 'net2']),
    ],
)
def test_of_two_equal_ones_none_is_taken_without_being_asked_for(content: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(CheckpointError, match='several encoders') as caught:
        to_encoder(content, 'file')
    assert '--branch' in str(caught.value)
    assert all(name in str(caught.value) for name in names)
    assert same(content, WANTED, branch=names[0])
    assert same(content, OTHER, branch=names[1])


def test_a_branch_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(CheckpointError, match='has no swa encoder; use branch="base" or branch="model_ema"'):
        to_encoder({'model': WANTED, 'model_ema': OTHER}, 'file', branch='swa')


@pytest.mark.parametrize('part', ['decoder.', 'neck.', 'projector.', 'reconstruction_head.'])
def test_a_part_that_looks_like_an_encoder_is_none(part: str) -> None:
    assert same({'state_dict': {**under(part, OTHER), **under('encoder.')}})


RESNET = {'conv1.weight': torch.randn(4, 3, 7, 7), 'layer1.0.conv1.weight': torch.randn(4, 4, 3, 3)}


@pytest.mark.parametrize(
    'wrap',
    [
        lambda s: {'state_dict': {f'model.{n}': v for n, v in s.items()}},
        lambda s: {'state_dict': {f'backbone.{n}': v for n, v in s.items()} | {'projector.0.weight': torch.zeros(1)}},
        lambda s: {'model_state_dict': {f'module._orig_mod.encoder.{n}': v for n, v in s.items()}},
    ],
)
def test_resnets_too(wrap: Callable[[State], dict[str, Any]]) -> None:
    found = to_encoder(wrap(RESNET), 'file')
    assert found.state.keys() == RESNET.keys()
    assert all(torch.equal(found.state[n], v) for n, v in RESNET.items())
