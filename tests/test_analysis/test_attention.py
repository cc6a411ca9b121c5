"""Attention and patch features against a slow computation, and the page."""

import numpy as np
import pytest
import torch
from helpers import vit_config
from PIL import Image

from mmselfsup_graft.analysis.attention.measure import attention_maps, patch_features, principal_colors
from mmselfsup_graft.analysis.attention.plot import over_image
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.cli.visualization import attention_maps as command
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import MODELS

ROWS, COLUMNS = 2, 3


def build(config, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS.build(config)
        for value in model.parameters():
            torch.nn.init.normal_(value, std=0.3)
    model.eval()
    return model


def slow_attention(model, images, block, extra):
    """Weights [B, heads, N, N], one query at a time, from the block's input."""
    with torch.no_grad():
        tokens, _ = model._embed(images, None)
        for layer in model.layers[: block - 1]:
            tokens = layer(tokens)
        layer = model.layers[block - 1]
        normed, attention = layer.ln1(tokens), layer.attn
        width, heads = normed.shape[-1], attention.num_heads
        size = width // heads
        weight, bias = attention.qkv.weight, attention.qkv.bias
        found = torch.zeros(len(images), heads, tokens.shape[1], tokens.shape[1])
        for image, head in np.ndindex(len(images), heads):
            part = slice(head * size, (head + 1) * size)
            query = normed[image] @ weight[:width][part].T + bias[:width][part]
            key = normed[image] @ weight[width : 2 * width][part].T + bias[width : 2 * width][part]
            if hasattr(attention, 'q_norm'):
                query, key = attention.q_norm(query), attention.k_norm(key)
            for row in range(len(query)):
                scores = torch.stack([(query[row] * each).sum() for each in key]) / size**0.5
                found[image, head, row] = scores.exp() / scores.exp().sum()
    return found


@pytest.mark.parametrize('options', [{}, {'qk_norm': True, 'num_registers': 2}])
@pytest.mark.parametrize('block', [1, 3])
def test_attention_is_that_of_the_block(options, block):
    model = build(vit_config(img_size=(4 * ROWS, 4 * COLUMNS), **options))
    images = torch.randn(2, 3, 4 * ROWS, 4 * COLUMNS, generator=torch.Generator().manual_seed(1))
    extra = 1 + options.get('num_registers', 0)
    found = attention_maps(model, images, block)
    expected = slow_attention(model, images, block, extra)[:, :, 0]
    assert found.maps.shape == (2, 2, ROWS, COLUMNS)
    torch.testing.assert_close(found.maps.sum((2, 3)), torch.ones(2, 2))
    torch.testing.assert_close(found.share, expected[..., extra:].sum(-1))
    torch.testing.assert_close(found.maps.flatten(2) * found.share[..., None], expected[..., extra:])
    tokens = model.encode(images)[:, 1:]
    torch.testing.assert_close(patch_features(model, images).flatten(1, 2), tokens)


def test_encoders_of_other_kinds():
    resnet = build(dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4))
    images = torch.randn(1, 3, 32, 64)
    torch.testing.assert_close(patch_features(resnet, images), resnet(images)[-1].permute(0, 2, 3, 1))
    with pytest.raises(ConfigError, match='no attention that can be drawn'):
        attention_maps(resnet, images)
    with pytest.raises(ConfigError, match='blocks 1 to 3'):
        attention_maps(build(vit_config()), torch.randn(1, 3, 16, 16), 4)


def test_colors_are_principal_components():
    features = np.random.default_rng(0).normal(size=(2, 3, 4, 6)) * [9, 5, 3, 0.1, 0.1, 0.1]
    colors = principal_colors(features)
    rows = features.reshape(-1, 6) - features.reshape(-1, 6).mean(0)
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    for axis in range(3):
        points = (left * values)[:, axis]
        low, high = np.percentile(points, [2, 98])
        scaled = 255 * ((points - low) / (high - low)).clip(0, 1)
        given = colors.reshape(-1, 3)[:, axis].astype(float)
        assert min(np.abs(given - scaled).max(), np.abs(given - (255 - scaled)).max()) <= 1  # up to the sign
    assert principal_colors(np.zeros((1, 2, 2, 2))).shape == (1, 2, 2, 3)


def test_overlay_is_brightest_where_attention_is():
    weights = np.zeros((4, 4))
    weights[1, 2] = 0.5
    picture = over_image(np.full((32, 32), 100, np.uint8), weights)
    brightness = picture.astype(float).sum(2)
    assert brightness[12, 20] == brightness.max()
    assert picture.shape == (32, 32, 3)


def test_the_command(tmp_path, capsys):
    model = build(vit_config())
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    told = {'num_heads': 2, 'img_size': [16, 16], 'grid': [4, 4], 'mean': [1.0] * 3, 'std': [50.0] * 3}
    save_atomically({'state_dict': state, 'meta': {'encoder': told}}, tmp_path / 'vit.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    Image.fromarray(pixels[..., 0]).save(tmp_path / 'b.png')
    arguments = [str(tmp_path), '--model', str(tmp_path / 'vit.pth'), '--out', str(tmp_path / 'page.html')]
    command.main(arguments)
    assert 'attention over 2 images' in capsys.readouterr().out
    text = (tmp_path / 'page.html').read_text()
    assert text.count('<figure>') == 2 * 5  # image, patches, all heads, two heads
    assert '<script' not in text
    (tmp_path / 'c.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'c.png cannot be read'):
        command.main([*arguments, '--overwrite'])
