"""Conversion between any two libraries: there and back, and an account of every tensor."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from helpers import build, moco_config, vit_config

from mmselfsup_graft.checkpoints import TARGETS, convert
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import summary
from mmselfsup_graft.errors import CheckpointError, FormatMismatchError

State = dict[str, torch.Tensor]
_ARCH = {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 16}
_SWIN = {'embed_dims': 8, 'depths': [1, 1, 1, 1], 'num_heads': [2, 2, 2, 2]}
_BEIT = {
    'use_rel_pos_bias': True,
    'use_abs_pos_emb': True,
    'final_norm': True,
    'layer_scale_init_value': 0.1,
    'out_type': 'cls_token',
}
CONFIGS: dict[str, dict[str, Any]] = {
    'vit': vit_config(width=8, depth=11),
    'vit-scaled': {
        'type': 'mmpretrain.VisionTransformer',
        'arch': _ARCH,
        'img_size': 16,
        'patch_size': 4,
        'layer_scale_init_value': 0.1,
    },
    'beit': {'type': 'mmpretrain.BEiTViT', 'arch': _ARCH, 'img_size': 16, 'patch_size': 4, **_BEIT},
    'resnet': {'type': 'mmpretrain.ResNet', 'depth': 18, 'stem_channels': 4, 'base_channels': 4},
    'convnext': {'type': 'mmpretrain.ConvNeXt', 'arch': {'depths': [1, 2, 1, 1], 'channels': [4, 8, 8, 8]}},
    'swin': {'type': 'mmpretrain.SwinTransformer', 'arch': _SWIN, 'img_size': 64, 'patch_size': 2, 'window_size': 4},
}


def family(kind: str) -> str:
    return kind.split('-')[0]


def state_of(kind: str) -> State:
    """Tensors of a small backbone, every value different."""
    torch.manual_seed(0)
    return {
        name: torch.randn(value.shape) if value.is_floating_point() else value
        for name, value in build(CONFIGS[kind]).state_dict().items()
    }


REFUSED = [('vit-scaled', 'mmseg-vit')]
WAYS = [
    (kind, name)
    for kind in CONFIGS
    for name, target in TARGETS.items()
    if family(kind) in target.families and (kind, name) not in REFUSED
]


def lost(kind: str, target: str, names: Iterable[str]) -> set[str]:
    """Names of what a target has no place for."""
    if family(kind) in ('vit', 'beit') and target in ('mmdet', 'mmseg', 'mmseg-vit', 'mmseg-mae'):
        return {name for name in names if name.startswith('ln1.')}
    if (kind, target) == ('beit', 'timm'):  # timm computes it
        return {name for name in names if name.endswith('relative_position_index')}
    return set()


@pytest.mark.parametrize(('kind', 'target'), WAYS)
def test_there_and_back_gives_the_same_tensors(kind: str, target: str) -> None:
    state = state_of(kind)
    there = convert(state, 'file', target)
    back = convert({'state_dict': there.state}, 'file', 'mmpretrain')
    assert not back.dropped
    lacking = lost(kind, target, state)
    assert set(there.dropped) == lacking
    if kind == 'beit' and target == 'mmseg-mae':  # separate biases become one
        state = {n: v for n, v in state.items() if not n.endswith('_bias') or 'attn' not in n}
    assert set(state) - lacking <= set(back.state)
    assert set(there.state).isdisjoint(lacking)
    for name in set(state) - lacking:
        assert torch.equal(back.state[name], state[name]), name


@pytest.mark.parametrize(('kind', 'target'), WAYS)
def test_every_tensor_is_accounted_for_once(kind: str, target: str) -> None:
    state = {f'backbone.{name}': value for name, value in state_of(kind).items()}
    beside = {'backbone.mask_token': torch.zeros(1), 'head.fc.weight': torch.zeros(1)}
    done = convert({'state_dict': {**state, **beside}, 'meta': {}}, 'file', target)
    taken = {source for source, _, _ in done.rows}
    assert not taken & set(done.dropped)
    assert taken | set(done.dropped) == {*state, *beside}
    assert set(beside) <= set(done.dropped)
    names = [name for _, name, _ in done.rows]
    assert len(done.state) == len(set(names))


def test_types_and_values_of_renamed_tensors_are_kept() -> None:
    state = {name: value.half() for name, value in state_of('vit').items()}
    done = convert(state, 'file', 'timm')
    assert {value.dtype for value in done.state.values()} == {torch.float16}
    assert done.state['blocks.10.mlp.fc2.bias'] is state['layers.10.ffn.layers.1.bias']
    assert list(done.state)[:3] == ['cls_token', 'pos_embed', 'patch_embed.proj.weight'], 'in the order of the file'


def test_momentum_encoder_on_request() -> None:
    state = {n: torch.full_like(v, i) for i, (n, v) in enumerate(build(moco_config()).state_dict().items())}
    for branch, prefix in (('base', 'backbone.'), ('momentum', 'momentum_encoder.backbone.')):
        done = convert({'state_dict': state}, 'file', 'timm', branch=branch)
        assert torch.equal(done.state['norm.bias'], state[f'{prefix}ln1.bias'])


def test_prefix() -> None:
    done = convert(state_of('resnet'), 'file', 'mmdet', prefix='backbone.')
    assert all(name.startswith('backbone.') for name in done.state)
    assert convert({'state_dict': done.state}, 'file', 'mmdet').state.keys() == state_of('resnet').keys()


@pytest.mark.parametrize('kind', ['vit', 'beit'])
def test_position_tables_for_another_image_size(kind: str) -> None:
    state = state_of(kind)
    done = convert(state, 'file', 'mmpretrain', img_size=(24, 24))
    config = {**CONFIGS[kind], 'img_size': 24}
    wanted = {name: value.shape for name, value in build(config).state_dict().items()}
    assert {n: v.shape for n, v in done.state.items()} == {n: s for n, s in wanted.items() if 'position_index' not in n}
    assert done.architecture.img_size == (24, 24)
    assert set(done.dropped) == {name for name in state if name.endswith('relative_position_index')}
    same = convert(state, 'file', 'mmpretrain', img_size=(16, 16))
    assert same.state['pos_embed'] is state['pos_embed']


def test_images_that_are_not_square() -> None:
    done = convert(state_of('vit'), 'file', 'mmpretrain', img_size=(16, 24))
    assert done.state['pos_embed'].shape == (1, 25, 8)
    assert done.architecture.img_size == (16, 24)
    assert convert(done.state, 'file', 'timm').architecture.img_size == (0, 0), 'nothing tells it'


@pytest.mark.parametrize(('kind', 'target'), REFUSED)
def test_layer_scale_where_there_is_none(kind: str, target: str) -> None:
    with pytest.raises(CheckpointError, match=f'4 tensors .* that target {target} cannot take'):
        convert(state_of(kind), 'file', target)


def test_layer_scale_in_mmseg_mae_and_in_beits_names() -> None:
    state = state_of('vit-scaled')
    there = convert(state, 'file', 'mmseg-mae').state
    assert torch.equal(there['layers.1.gamma_2'], state['layers.1.ffn.gamma2.weight'])
    timm = {
        n.replace('ls1.gamma', 'gamma_1').replace('ls2.gamma', 'gamma_2'): v
        for n, v in convert(state, 'file', 'timm').state.items()
    }
    assert convert(timm, 'file', 'mmpretrain').state.keys() == state.keys()


def test_normalization_is_told_by_the_method_only() -> None:
    state = {f'backbone.{name}': value for name, value in state_of('vit').items()}
    assert convert({'state_dict': state}, 'file', 'timm').normalization is None
    named = convert({'state_dict': state}, 'file', 'timm', wanted='a2mim').normalization
    assert named is not None
    assert named.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize('prefix', ['momentum_encoder.module.0.', 'encoder_k.module.0.'])
def test_followers_of_mmpretrain(prefix: str) -> None:
    state = state_of('resnet')
    file = {f'{side}{n}': v + number for number, side in enumerate(('backbone.', prefix)) for n, v in state.items()}
    done = convert({'state_dict': file}, 'file', 'mmdet', branch='momentum')
    assert torch.equal(done.state['conv1.weight'], state['conv1.weight'] + 1)


def test_pooled_norm() -> None:
    state = {**state_of('vit'), 'ln2.weight': torch.ones(8), 'ln2.bias': torch.ones(8)}
    there = convert(state, 'file', 'timm').state
    assert torch.equal(there['fc_norm.bias'], torch.ones(8))
    assert convert(there, 'file', 'mmpretrain').state.keys() == state.keys()
    with pytest.raises(CheckpointError, match=r'ln2\.weight .* target hf cannot take'):
        convert(state, 'file', 'hf')


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(CheckpointError, match='unknown target'):
        convert(state_of('vit'), 'file', 'keras')
    with pytest.raises(CheckpointError, match=r'family resnet, which target hf does not support; .* torchvision'):
        convert(state_of('resnet'), 'file', 'hf')
    with pytest.raises(CheckpointError, match='26 x 26 is not a multiple of the patches of 4 x 4'):
        convert(state_of('vit'), 'file', 'timm', img_size=(26, 26))
    with pytest.raises(CheckpointError, match='holds no position table'):
        convert(state_of('resnet'), 'file', 'mmdet', img_size=(32, 32))
    tiny = {n: v[:12] if n.endswith('bias_table') else v for n, v in state_of('beit').items()}
    with pytest.raises(CheckpointError, match='too small to be resized'):
        convert(tiny, 'file', 'mmpretrain', img_size=(32, 32))
    flat = {**state_of('vit'), 'patch_embed.projection.weight': torch.zeros(8, 48)}
    with pytest.raises(CheckpointError, match='2 dimensions, expected 4'):
        convert(flat, 'file', 'timm')
    with pytest.raises(FormatMismatchError, match='named as in format mmpretrain'):
        convert(state_of('resnet'), 'file', 'mmdet', wanted='swav')
    incomplete = {n: v for n, v in state_of('vit').items() if 'patch_embed' not in n}
    with pytest.raises(CheckpointError, match=r'patch_embed\.projection\.weight is missing'):
        convert(incomplete, 'file', 'timm')
    stem = {
        'base_encoder.blocks.0.attn.qkv.weight': torch.zeros(1),
        'base_encoder.patch_embed.proj.0.weight': torch.zeros(1),
    }
    with pytest.raises(CheckpointError, match='convolutional stem'):
        convert({'state_dict': stem}, 'file', 'timm')


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('vit', 'pos_embed'),
        ('vit', 'patch_embed.projection.weight'),
        ('vit', 'layers.0.ffn.layers.0.0.weight'),
        ('beit', 'pos_embed'),
        ('beit', 'layers.1.attn.relative_position_bias_table'),
        ('convnext', 'stages.0.0.depthwise_conv.weight'),
        ('resnet', 'layer1.0.conv1.weight'),
        ('swin', 'patch_embed.projection.weight'),
    ],
)
@pytest.mark.parametrize('shape', [(), (2,), (1, 2, 3, 4, 5)])
def test_malformed_shapes_are_named(kind: str, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=rf'{re.escape(name)} has {len(shape)} dimensions, expected'):
        convert({**state_of(kind), name: torch.zeros(shape)}, 'file', 'mmpretrain', img_size=(32, 32))


def test_tiny_tables_and_empty_tensors() -> None:
    table = 'layers.0.attn.relative_position_bias_table'
    done = convert({**state_of('beit'), table: torch.zeros(1, 2)}, 'file', 'mmpretrain')
    assert done.state[table].shape == (1, 2)
    with pytest.raises(CheckpointError, match='pos_embed has no elements'):
        convert({**state_of('vit'), 'pos_embed': torch.zeros(1, 0, 8)}, 'file', 'mmpretrain')


@pytest.mark.parametrize('stages', [3, 5])
def test_swin_of_another_number_of_stages(stages: int) -> None:
    arch = {'embed_dims': 4, 'depths': [1] * stages, 'num_heads': [2] * stages}
    config = {**CONFIGS['swin'], 'arch': arch, 'img_size': 128, 'out_indices': [stages - 1]}
    state = build(config).state_dict()
    official = convert(state, 'file', 'official').state
    assert {'norm.weight', f'layers.{stages - 1}.blocks.0.norm1.bias'} <= official.keys()
    back = convert(official, 'file', 'mmpretrain').state
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def _shared() -> tuple[State, torch.Tensor]:
    """A ViT whose blocks share one table of relative positions."""
    own = {name: value for name, value in state_of('beit').items() if 'relative_position' not in name}
    table = torch.randn(state_of('beit')['layers.0.attn.relative_position_bias_table'].shape)
    return {**own, 'rel_pos_bias.relative_position_bias_table': table}, table


@pytest.mark.parametrize('target', ['mmpretrain', 'mmseg'])
def test_a_shared_relative_table_is_copied_unless_told_otherwise(target: str) -> None:
    state, table = _shared()
    copied = convert(state, 'file', target).state
    names = [name for name in copied if 'relative_position' in name]
    assert names == [f'layers.{i}.attn.relative_position_bias_table' for i in (0, 1)]
    assert all(torch.equal(copied[name], table) for name in names)
    kept = convert(state, 'file', target, expand_shared_rel_pos=False).state
    assert kept['rel_pos_bias.relative_position_bias_table'] is table
    assert not [name for name in kept if name.startswith('layers.') and 'relative_position' in name]


def test_a_target_whose_blocks_cannot_share_a_table() -> None:
    with pytest.raises(CheckpointError, match='in target mmseg-mae blocks cannot share a table'):
        convert(_shared()[0], 'file', 'mmseg-mae', expand_shared_rel_pos=False)
    same = [convert(state_of('beit'), 'file', 'mmseg-mae', expand_shared_rel_pos=each) for each in (True, False)]
    assert same[0].state.keys() == same[1].state.keys()


def test_a_tensor_that_is_none_of_a_vit_is_refused() -> None:
    state = {**state_of('vit'), 'norm.weight': torch.zeros(8)}
    with pytest.raises(CheckpointError, match=r'norm\.weight.* target timm cannot take'):
        convert(state, 'file', 'timm')


def test_summary_counts() -> None:
    state = {**state_of('vit'), 'head.fc.weight': torch.zeros(1)}
    text = summary(convert(state, 'file', 'hf'))
    assert 'vit with 11 blocks, 8 channels, patches of 4 px, images of 16 x 16 px' in text
    assert f'{len(state) - 1 - 22:4d} tensors kept' in text
    assert '  66 by split_qkv' in text
    assert '   1 dropped: head (1)' in text


def test_what_is_not_read_is_said() -> None:
    state = state_of('resnet')
    file = {'teacher': {f'backbone.{n}': v for n, v in state.items()}, 'student': {'backbone.x': torch.zeros(1)}}
    done = convert({**file, 'optimizer': {}, 'epoch': 3}, 'file', 'mmdet')
    assert done.beside == ('student', 'optimizer', 'epoch')
    assert 'not read: student, optimizer, epoch' in summary(done)
    assert convert(state, 'file', 'mmdet').beside == ()
    assert convert({**state, 'author': 'x'}, 'file', 'mmdet').beside == ('author',)
