"""Spectrum of features: known maps, every family of encoders against modules called one by one, and no trace."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import assert_close, build, vit_config
from torch import nn

from mmselfsup_graft.analysis import log_amplitude, measure_spectrum, relative_log_amplitude, spatial_variance
from mmselfsup_graft.analysis.spectrum.measure import as_maps, layer_sites
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.pooling import extra_tokens

BEIT = dict(
    type='MaskedBEiT',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=16,
    patch_size=4,
    use_abs_pos_emb=True,
    final_norm=True,
    out_type='featmap',
    layer_scale_init_value=0.5,
)
CONVNEXT = dict(depths=[1, 2], channels=[8, 16])
CASES = {
    'vit': (vit_config(drop_path_rate=0.5), 16),
    'beit': (BEIT, 16),
    'resnet': (dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4), 96),
    'resnet50': (dict(type='mmpretrain.ResNet', depth=50, stem_channels=4, base_channels=4), 96),
    'cifar': (dict(type='MaskedResNetCIFAR', depth=18, stem_channels=4, base_channels=4), 32),
    'convnext': (dict(type='MaskedConvNeXt', arch=CONVNEXT, out_indices=(1,)), 32),
    'swin': (
        dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]),
            img_size=32,
            window_size=2,
            out_indices=(1,),
        ),
        32,
    ),
}


def encoder(case: str) -> nn.Module:
    torch.manual_seed(0)
    model = build(CASES[case][0]).double()
    for parameter in model.parameters():  # nothing is 0 or 1: every branch takes part
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def images(case: str, count: int = 3) -> torch.Tensor:
    side = CASES[case][1]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# ---------------------------------------------------------------- equations
def relative(maps: torch.Tensor) -> torch.Tensor:
    return relative_log_amplitude(log_amplitude(maps).mean(0))


def test_a_constant_map_has_frequency_0_alone() -> None:
    maps = torch.full((2, 3, 6, 6), 5.0, dtype=torch.float64)
    found = relative(maps)
    assert_close(found, [0.0] + [math.log(1e-6) - math.log(5 * 36 + 1e-6)] * 2, rtol=1e-6)
    assert_close(spatial_variance(maps), [0.0, 0.0])


def test_noise_is_white_and_a_wave_is_a_peak() -> None:
    noise = torch.randn(40, 20, 8, 8)
    assert relative(noise)[1:].abs().max() < 0.1 + math.log(2) / 2  # frequency 0 is real, others complex
    place = torch.arange(8.0)
    wave = torch.cos(2 * math.pi * 2 * (place[:, None] + place[None]) / 8) + 1e-3 * noise[:1, :1]
    assert relative(wave + 1).argmax() == 0
    assert relative(wave + 0.1).argmax() == 2


@pytest.mark.parametrize('side', [3, 4, 7, 8])
def test_against_a_slow_transform(side: int) -> None:
    maps = torch.randn(2, 3, side, side, dtype=torch.float64)
    expected = []
    for k in range((side + 1) // 2):
        place = torch.arange(side)
        wave = torch.exp(-2j * math.pi * k * (place[:, None] + place[None]).double() / side)
        expected.append(float(((maps * wave).sum((2, 3)).abs() + 1e-6).log().mean()))
    assert_close(relative(maps), np.array(expected) - expected[0], rtol=1e-4)
    assert_close(spatial_variance(maps), maps.flatten(2).numpy().var(axis=2, ddof=1).mean(axis=1), rtol=1e-5)


def test_tokens_become_maps_row_by_row() -> None:
    tokens = torch.arange(10.0).view(1, 10, 1).repeat(2, 1, 3)
    assert as_maps(tokens, 1)[1, 2].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    for wrong in (tokens, torch.zeros(2, 3, 4, 5), torch.zeros(2, 3)):
        with pytest.raises(ConfigError, match='square'):
            as_maps(wrong)


# ---------------------------------------------------------------- layers
def test_names_and_kinds_of_layers() -> None:
    def layers(case: str) -> list[tuple[str, str, int]]:
        return [(each.name, each.kind, each.side) for each in measure_spectrum(encoder(case), [images(case)])]

    halves = [(f'layers.{i}.{half}', kind, 4) for i in (0, 1) for half, kind in (('attn', 'attention'), ('ffn', 'mlp'))]
    assert layers('beit') == [('stem', 'stem', 4), *halves]
    assert layers('vit')[:5] == [('stem', 'stem', 4), *halves]
    sides = {1: 24, 2: 12, 3: 6, 4: 3}
    blocks = [(f'layer{s}.{b}', 'pooling' if s > 1 and b == 0 else 'block', sides[s]) for s in sides for b in (0, 1)]
    assert layers('resnet') == [('stem', 'stem', 24), *blocks]
    assert len(layers('resnet50')) == 17
    assert layers('convnext') == [
        ('stem', 'stem', 8),
        ('stages.0.0', 'block', 8),
        ('downsample_layers.1', 'pooling', 4),
        ('stages.1.0', 'block', 4),
        ('stages.1.1', 'block', 4),
    ]
    swin = layers('swin')
    assert [name for name, _, _ in swin][4:7] == [
        'stages.0.blocks.1.ffn',
        'stages.0.downsample',
        'stages.1.blocks.0.attn',
    ]
    assert [kind for _, kind, _ in swin] == ['stem', *['attention', 'mlp'] * 2, 'pooling', *['attention', 'mlp'] * 2]


def by_hand(case: str, model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Latents [B, C, h, h] of every layer, module by module."""
    found = []
    if case in ('vit', 'beit'):
        tokens = torch.cat([model.cls_token.expand(len(x), -1, -1), model.patch_embed(x)[0]], 1) + model.pos_embed
        found.append(tokens)
        for layer in model.layers:
            if case == 'beit':
                tokens = tokens + layer.gamma_1 * layer.attn(layer.ln1(tokens), rel_pos_bias=None)
                found.append(tokens)
                tokens = tokens + layer.gamma_2 * layer.ffn(layer.ln2(tokens))
            else:
                tokens = tokens + layer.attn(layer.ln1(tokens))
                found.append(tokens)
                tokens = layer.ffn(layer.ln2(tokens), identity=tokens)
            found.append(tokens)
        return [t[:, 1:].transpose(1, 2).unflatten(2, (4, 4)) for t in found]
    if case == 'convnext':
        for down, stage in zip(model.downsample_layers, model.stages):
            for module in (down, *stage):
                x = module(x)
                found.append(x)
        return found
    x = model.maxpool(model.relu(model.norm1(model.conv1(x))))
    found.append(x)
    for name in model.res_layers:
        for block in getattr(model, name):
            x = block(x)
            found.append(x)
    return found


@pytest.mark.parametrize('case', ['vit', 'beit', 'resnet', 'convnext'])
def test_against_modules_called_one_by_one(case: str) -> None:
    model, x = encoder(case), images(case)
    model.eval()  # returns None for mmpretrain's backbones
    with torch.no_grad():
        latents = by_hand(case, model, x)
    found = measure_spectrum(model, [x])
    assert len(found) == len(latents)
    for layer, latent in zip(found, latents):
        assert_close(layer.amplitude, relative(latent), rtol=1e-4, atol=1e-6, name=layer.name)
        assert layer.variance == pytest.approx(float(spatial_variance(latent).mean()), rel=1e-5)
        assert layer.highest == layer.amplitude[-1]
        assert layer.frequencies[1] == 2 / latent.shape[-1]
        assert layer.frequencies[-1] < 1


@pytest.mark.parametrize('case', CASES)
def test_batches_make_no_difference_and_nothing_is_left_behind(case: str) -> None:
    model, x = encoder(case), images(case, 5)
    model.train()
    next(model.children()).eval()  # a part with a mode of its own
    twin, modes = copy.deepcopy(model), [part.training for part in model.modules()]
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    whole = measure_spectrum(model, [x])
    parts = measure_spectrum(model, [x[:2], x[2:]])
    for one, other in zip(whole, parts):
        assert (one.name, one.kind, one.side) == (other.name, other.kind, other.side)
        assert_close(other.amplitude, one.amplitude, rtol=1e-6, name=one.name)
        assert other.variance == pytest.approx(one.variance, rel=1e-6)
    assert hooks == sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    assert modes == [part.training for part in model.modules()]
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in model.state_dict().items())
    for each in (model, twin):
        each.eval()
    with torch.no_grad():
        for actual, expected in zip(model(x), twin(x)):
            assert torch.equal(actual, expected)


def test_hooks_leave_after_an_error() -> None:
    model = encoder('convnext')
    with pytest.raises(ConfigError, match='square'):
        measure_spectrum(model, [torch.zeros(1, 3, 32, 64, dtype=torch.float64)])
    assert all(not part._forward_hooks for name, part in model.named_modules() if name.startswith('stages'))
    assert model.training


def test_maps_of_few_pixels_have_no_high_frequency() -> None:
    model = encoder('resnet')
    found = measure_spectrum(model, [torch.randn(2, 3, 32, 32, dtype=torch.float64)])
    assert [layer.side for layer in found] == [8, 8, 8, 4, 4, 2, 2, 1, 1]
    assert [math.isnan(layer.highest) for layer in found] == [layer.side < 3 for layer in found]
    assert [math.isnan(layer.variance) for layer in found] == [layer.side < 2 for layer in found]


def test_what_cannot_be_measured() -> None:
    with pytest.raises(DataError, match='no image'):
        measure_spectrum(encoder('vit'), [])
    with pytest.raises(DataError, match='features of stem are not finite'):
        measure_spectrum(encoder('vit'), [torch.full((1, 3, 16, 16), math.nan, dtype=torch.float64)])
    with pytest.raises(ConfigError, match='cannot infer the depth'):
        layer_sites(nn.Sequential(nn.Linear(2, 2)))
    model = encoder('convnext')
    model.downsample_layers[1].register_module('0', nn.Identity())  # still called: the whole layer is hooked
    model.forward = lambda x: model.downsample_layers[0](x)
    with pytest.raises(ConfigError, match='does not call the module of stem'):
        measure_spectrum(model, [images('convnext')])


def test_extra_tokens() -> None:
    assert [extra_tokens(encoder(case)) for case in ('vit', 'beit', 'resnet', 'swin')] == [1, 1, 0, 0]
