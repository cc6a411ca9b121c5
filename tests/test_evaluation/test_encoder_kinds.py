"""Encoders of more kinds than the plain ViT: their features are those of plain torch, or the reader refuses them."""

from pathlib import Path
from typing import Any

import plain_vit
import pytest
import torch
from helpers import build

from mmselfsup_graft.checkpoints import graft_weights, parse_graft
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.evaluation import load_backbone

GATED = {'embed_dims': 64, 'num_layers': 3, 'num_heads': 4, 'feedforward_channels': 192}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'plain': ({}, {}),
    'layer scale': ({'scale': True}, {'layer_scale_init_value': 1e-5}),
    'registers': ({'registers': 4}, {'num_registers': 4}),
    'dinov2': ({'scale': True, 'registers': 4}, {'layer_scale_init_value': 1.0, 'num_registers': 4}),
    'norms of queries and keys': ({'qk_norm': True}, {'qk_norm': True}),
    'gated': ({'gated': True}, {'arch': GATED, 'layer_cfgs': {'ffn_type': 'swiglu_fused'}}),
    'norm before': ({'pre_norm': True}, {'pre_norm': True}),
    'all': (
        {'scale': True, 'registers': 1, 'qk_norm': True},
        {'layer_scale_init_value': 0.1, 'num_registers': 1, 'qk_norm': True},
    ),
}


def write(state: plain_vit.State, path: Path, **beside: Any) -> str:
    torch.save({'model': state, **beside}, path)
    return str(path)


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_features_are_those_of_plain_torch(kind: str, tmp_path: Path) -> None:
    made, options = KINDS[kind]
    state, x = plain_vit.make(**made), plain_vit.images()
    expected = plain_vit.tokens(state, x)
    path = write(state, tmp_path / 'a.pth')
    vit: Any = load_backbone(plain_vit.config(**options), path)
    torch.testing.assert_close(vit(x)[-1], expected[:, 0], rtol=0, atol=2e-5)
    extra = 1 + made.get('registers', 0)
    patches = torch.cat([expected[:, :1], expected[:, extra:]], 1)
    torch.testing.assert_close(vit.encode(x), patches, rtol=0, atol=2e-5)
    raw = load_backbone(plain_vit.config(out_type='raw', **options), path)
    torch.testing.assert_close(raw(x)[-1], expected, rtol=0, atol=2e-5)
    maps = load_backbone(plain_vit.config(out_type='featmap', **options), path)
    torch.testing.assert_close(maps(x)[-1].flatten(2).transpose(1, 2), expected[:, extra:], rtol=0, atol=2e-5)


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind not in ('plain', 'gated')])
def test_a_backbone_without_a_place_refuses_and_says_what_takes_it(kind: str, tmp_path: Path) -> None:
    made, options = KINDS[kind]
    path = write(plain_vit.make(**made), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='cannot take') as caught:
        load_backbone(plain_vit.config(), path)
    assert any(str(option) in str(caught.value) for option in options)
    other: dict[str, Any] = {'qk_norm': True} if 'qk_norm' not in options else {'num_registers': 3}
    with pytest.raises(CheckpointError, match=r'missing|cannot take|shape'):  # and the other way round
        load_backbone(plain_vit.config(**other), path)


@pytest.mark.parametrize(
    'name',
    [
        'blocks.1.attn.sub_norm.weight',
        'rope.freqs',
        'blocks.0.mlp.fc1_g.weight',
        'fc_norm.weight',
        'pos_embed_win',
        'blocks.2.attn.relative_position_bias_table',
        'prompt_embeddings',
        'patch_embed.norm.weight',
    ],
)
def test_a_tensor_that_nothing_takes_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = write({**plain_vit.make(), name: torch.zeros(64)}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='cannot take') as caught:
        load_backbone(plain_vit.config(), path)
    known = name.replace('blocks', 'layers').replace('mlp', 'ffn').replace('fc_norm', 'ln2')
    assert known.split('.')[-2:][-1].split('_')[0] in str(caught.value)


@pytest.mark.parametrize('name', ['head.weight', 'mask_token', 'decoder_embed.weight', 'head_dist.bias', 'fc.weight'])
def test_what_is_no_part_of_the_features_is_only_reported(name: str, tmp_path: Path) -> None:
    state, x = plain_vit.make(), plain_vit.images()
    vit = load_backbone(plain_vit.config(), write({**state, name: torch.zeros(64)}, tmp_path / 'a.pth'))
    torch.testing.assert_close(vit(x)[-1], plain_vit.feature(state, x), rtol=0, atol=2e-5)


def test_a_distillation_token_is_refused_by_name(tmp_path: Path) -> None:
    state = plain_vit.make()
    state['pos_embed'] = torch.cat([state['pos_embed'][:, :1], state['pos_embed']], 1)
    path = write({**state, 'dist_token': torch.zeros(1, 1, 64)}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='dist_token'):
        load_backbone(plain_vit.config(), path)


@torch.no_grad()
def test_only_the_layers_of_a_source_count(tmp_path: Path) -> None:
    """A graft of some blocks asks for their tensors alone; it can leave out what it names."""
    state = plain_vit.make(registers=2)
    vit = build(plain_vit.config())
    path = write(state, tmp_path / 'a.pth')
    weights, _ = graft_weights(parse_graft([{'checkpoint': path, 'layers': (1, 3)}]), vit.state_dict(), vit.depth)
    assert torch.equal(weights['layers.1.attn.proj.bias'], state['blocks.1.attn.proj.bias'])
    with pytest.raises(CheckpointError, match='num_registers=2'):
        graft_weights(parse_graft([{'checkpoint': path, 'layers': (0, 2)}]), vit.state_dict(), vit.depth)
    entry = {'checkpoint': path, 'layers': (0, 2), 'ignore': ['register_tokens']}
    weights, report = graft_weights(parse_graft([entry]), vit.state_dict(), vit.depth)
    assert torch.equal(weights['cls_token'], state['cls_token'])
    assert 'register_tokens' in report.unused[path]


# ---------------------------------------------------------------- timm's own models
def timm_vit(**kwargs: Any) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=16, patch_size=4, in_chans=1, num_classes=0, embed_dim=64, depth=3, num_heads=4, **kwargs
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(
    ('made', 'options'),
    [
        ({'init_values': 1e-5}, {'layer_scale_init_value': 1.0}),
        (
            {'init_values': 1e-5, 'reg_tokens': 4, 'no_embed_class': True},
            {'layer_scale_init_value': 1, 'num_registers': 4},
        ),
        ({'reg_tokens': 4}, {'num_registers': 4}),
        ({'no_embed_class': True}, {}),
        ({'qk_norm': True, 'pre_norm': True}, {'qk_norm': True, 'pre_norm': True}),
    ],
)
@torch.no_grad()
def test_equal_to_timm(made: dict[str, Any], options: dict[str, Any], tmp_path: Path) -> None:
    model, x = timm_vit(**made), plain_vit.images()
    path = write(model.state_dict(), tmp_path / 'a.pth')
    vit: Any = load_backbone(plain_vit.config(out_type='raw', **options), path)
    torch.testing.assert_close(vit(x)[-1], model.forward_features(x), rtol=0, atol=5e-5)
