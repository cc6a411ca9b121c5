"""SelfSupViT: features, kept patches, fixed table, published initializations."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_close, build, moco_config, vit_config
from mmpretrain.models import VisionTransformer

from mmselfsup_graft.checkpoints import sincos_table
from mmselfsup_graft.errors import ConfigError


def _vit(**kwargs: Any) -> Any:
    vit = build(vit_config(**kwargs))
    vit.init_weights()
    torch.nn.init.normal_(vit.cls_token)  # so that the class token matters
    return vit.double()


def _images(size: int = 16, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize('size', [16, 24])
def test_encode_equals_mmpretrain(size: int) -> None:
    vit, images = _vit(), _images(size)
    vit.interpolate_mode = 'bicubic'
    tokens = vit.encode(images)
    assert tokens.shape == (3, 1 + (size // 4) ** 2, 16)
    assert_close(tokens[:, 0], VisionTransformer.forward(vit, images)[-1], rtol=1e-12)
    assert_close(tokens[:, 0], vit(images)[-1], rtol=1e-12)
    vit.out_type = 'raw'
    assert_close(tokens, VisionTransformer.forward(vit, images)[-1], rtol=1e-12)


@torch.no_grad()
def test_kept_patches_are_all_that_is_seen() -> None:
    vit, images = _vit(), _images()
    keep = torch.stack([torch.randperm(16)[:5] for _ in images])
    positioned = vit.patch_embed(images)[0] + vit.pos_embed[:, 1:]
    rows = []
    for image, chosen in zip(positioned, keep):
        tokens = torch.cat([vit.cls_token[0] + vit.pos_embed[0, :1], image[chosen]])[None]
        for layer in vit.layers:
            tokens = layer(tokens)
        rows.append(vit.ln1(tokens)[0])
    expected = torch.stack(rows)
    assert_close(vit.encode(images, keep), expected, rtol=1e-12)
    assert_close(vit(images, keep)[0], expected[:, 0], rtol=1e-12)


@torch.no_grad()
def test_order_of_kept_patches_does_not_change_the_class_token() -> None:
    vit, images = _vit(), _images()
    everything = torch.stack([torch.randperm(16) for _ in images])
    assert_close(vit(images, everything)[0], vit(images)[0], rtol=1e-10)


@pytest.mark.parametrize('init', ['mae', 'mocov3'])
def test_position_table_is_frozen_also_after_loading(init: str, tmp_path: Path) -> None:
    other = 'mocov3' if init == 'mae' else 'mae'
    source = build(vit_config(init=other))
    source.init_weights()
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    loaded = build(vit_config(init=init))
    loaded.init_weights()
    loaded.load_state_dict(source.state_dict())
    assert not loaded.pos_embed.requires_grad
    assert torch.equal(loaded.pos_embed, sincos_table((4, 4), 16, other)), 'the loaded table stays in use'
    grafted = build(moco_config(vit_config(init=init), graft=[{'checkpoint': str(tmp_path / 'a.pth')}]))
    grafted.init_weights()
    for vit in (grafted.backbone, grafted.momentum_encoder.backbone):
        assert not vit.pos_embed.requires_grad
        assert torch.equal(vit.pos_embed, sincos_table((4, 4), 16, other))


def _reaches(values: torch.Tensor, bound: float) -> bool:
    """Whether values lie in [-bound, bound] and come close to both ends."""
    return bool(values.abs().max() <= bound and values.max() > 0.9 * bound and values.min() < -0.9 * bound)


@pytest.mark.parametrize('init', ['mae', 'mocov3'])
def test_initialisation_of_linear_layers(init: str) -> None:
    width, hidden = 32, 128
    vit = build(vit_config(width=width, depth=2, init=init))
    vit.init_weights()
    qkv_outputs = 3 * width if init == 'mae' else width  # MoCo v3 takes q, k and v as three matrices
    for layer in vit.layers:
        assert _reaches(layer.attn.qkv.weight, math.sqrt(6 / (qkv_outputs + width)))
        assert _reaches(layer.attn.proj.weight, math.sqrt(6 / (width + width)))
        assert _reaches(layer.ffn.layers[0][0].weight, math.sqrt(6 / (width + hidden)))
        assert _reaches(layer.ffn.layers[1].weight, math.sqrt(6 / (width + hidden)))
        for name, parameter in layer.named_parameters():
            if name.endswith('bias'):
                assert not parameter.any(), name


@pytest.mark.parametrize('init', ['mae', 'mocov3'])
def test_initialisation_of_the_stem(init: str) -> None:
    width, patch = 64, 4
    vit = build(vit_config(width=width, depth=1, init=init))
    vit.init_weights()
    assert _reaches(vit.patch_embed.projection.weight, math.sqrt(6 / (3 * patch * patch + width)))
    if init == 'mocov3':
        assert not vit.patch_embed.projection.bias.any()
    std = 0.02 if init == 'mae' else 1e-6
    assert 0.5 * std < vit.cls_token.std().item() < 1.5 * std
    assert torch.equal(vit.pos_embed, sincos_table((4, 4), width, init))


def test_single_channel_and_stopped_patch_embedding() -> None:
    vit = build(vit_config(in_channels=1, stop_grad_patch_embed=True))
    frozen = {n for n, p in vit.named_parameters() if not p.requires_grad}
    assert frozen == {'pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias'}
    assert vit(torch.randn(2, 1, 16, 16))[0].shape == (2, 16)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'bas'}, "unknown arch 'bas'"),
        ({'init': 'moco'}, 'init must be "mae" or "mocov3"'),
        ({'img_size': 30}, 'img_size 30 is not a multiple of patch_size 4'),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**vit_config(), **options})


def test_named_variants() -> None:
    from mmselfsup_graft.models import SelfSupViT

    sizes = {name: SelfSupViT.arch_zoo[name] for name in ('deit-small', 'mocov3-small', 'base', 'large')}
    found = {n: (a['embed_dims'], a['num_layers'], a['num_heads']) for n, a in sizes.items()}
    assert found == {
        'deit-small': (384, 12, 6),
        'mocov3-small': (384, 12, 12),
        'base': (768, 12, 12),
        'large': (1024, 24, 16),
    }


@pytest.mark.parametrize('options', [{}, {'qkv_bias': False}, {'layer_scale_init_value': 0.3}, {'final_norm': False}])
def test_the_class_token_alone_is_that_of_all_tokens_with_its_gradients(options: dict[str, Any]) -> None:
    vit, images = _vit(**options), _images()
    parameters = [p for p in vit.parameters() if p.requires_grad]
    shortcut, full = vit.class_token(images), vit.encode(images)[:, 0]
    assert_close(shortcut, full, rtol=1e-12)
    weights = torch.randn_like(full)
    for ours, theirs in zip(
        torch.autograd.grad((shortcut * weights).sum(), parameters, allow_unused=True),
        torch.autograd.grad((full * weights).sum(), parameters, allow_unused=True),
    ):
        assert_close(ours, theirs, rtol=1e-9)


def test_blocks_are_those_of_mmpretrain() -> None:
    """Their rates, norms and options, a negative output and frozen stages."""
    options = dict(drop_rate=0.1, drop_path_rate=0.2, qkv_bias=False, layer_scale_init_value=0.3, frozen_stages=1)
    options.update(norm_cfg=dict(type='LN', eps=1e-3), layer_cfgs=dict(ffn_type='swiglu_fused'), out_indices=[0, -1])
    config = vit_config(**{**options, 'out_indices': [0, -1]})
    ours, theirs = build(config), VisionTransformer(**{k: v for k, v in config.items() if k != 'type'})
    assert str(ours.layers).replace('EncoderBlock', 'TransformerEncoderLayer') == str(theirs.layers)
    assert (ours.num_layers, ours.out_indices, ours.arch_settings) == (3, [0, 2], theirs.arch_settings)
    for name, parameter in theirs.named_parameters():
        found = ours.get_parameter(name)
        assert found.shape == parameter.shape
        assert found.requires_grad == (parameter.requires_grad and name != 'pos_embed'), name
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_the_same_seed_gives_the_weights_of_mmpretrain() -> None:
    """Building our own blocks draws no other numbers."""
    config = vit_config()
    found = []
    for make in (build, lambda c: VisionTransformer(**{k: v for k, v in c.items() if k != 'type'})):
        torch.manual_seed(3)
        vit = make(config)
        found.append((vit.layers.state_dict(), torch.rand(1)))
    assert all(torch.equal(found[0][0][name], value) for name, value in found[1][0].items())
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize('index', [3, -4])
def test_an_output_of_a_block_that_does_not_exist(index: int) -> None:
    with pytest.raises(ConfigError, match=rf'out_indices has {index}, expected -3 to 2'):
        build(vit_config(out_indices=index))


def test_heads_must_share_the_width() -> None:
    config = vit_config(width=16)
    config['arch']['num_heads'] = 5
    with pytest.raises(ConfigError, match='cannot be shared by 5 heads'):
        build(config)
