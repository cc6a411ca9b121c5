"""Class token, mean of the patch tokens, or both, of every family of encoders: by hand from all tokens."""

import numpy as np
import pytest
import torch
from helpers import vit_config
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import BlockFeature, check_features, default_feature, encode_images, load_backbone
from mmselfsup_graft.evaluation.pooling import feature_parts, pool_output

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
PARTS = ('class_token', 'patch_mean')
ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
MMPRETRAIN = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
BEIT = dict(type='SelfSupBEiT', arch=ARCH, img_size=32, patch_size=8)
RESNET = dict(type='mmpretrain.ResNet', depth=18)
CONVNEXT = dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 8, 8, 12]))
OURS = vit_config(img_size=32, patch_size=8)


@torch.no_grad()
@pytest.mark.parametrize(
    ('config', 'default'),
    [
        (OURS, 'class_token'),
        (MMPRETRAIN, 'class_token'),
        ({**MMPRETRAIN, 'out_type': 'raw'}, 'class_token'),
        ({**OURS, 'type': 'MaskedViT', 'out_type': 'featmap'}, 'patch_mean'),
        (BEIT, 'patch_mean'),
    ],
)
def test_parts_of_a_vit(config, default):
    vit = load_backbone(config, None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in vit.ln1.parameters():
            nn.init.normal_(parameter)
    tokens = load_backbone({**config, 'out_type': 'raw'}, None)
    tokens.load_state_dict(vit.state_dict())
    (expected,) = tokens(IMAGES)
    assert expected.shape == (3, 17, 16)
    found = encode_images(vit, IMAGES, PARTS)
    torch.testing.assert_close(found['class_token'], expected[:, 0])
    torch.testing.assert_close(found['patch_mean'], expected[:, 1:].mean(1))
    assert default_feature(vit) == default
    assert vit.out_type == config.get('out_type', {'SelfSupBEiT': 'featmap'}.get(config['type'], 'cls_token'))
    for part in PARTS:  # alone, which may take a shorter way
        torch.testing.assert_close(encode_images(vit, IMAGES, [part])[part], found[part])


@torch.no_grad()
def test_the_norm_of_the_mean_stays():
    vit = load_backbone({**MMPRETRAIN, 'out_type': 'avg_featmap'}, None)
    nn.init.constant_(vit.ln2.weight, 3.0)
    (own,) = vit(IMAGES)
    torch.testing.assert_close(encode_images(vit, IMAGES, ['patch_mean'])['patch_mean'], own)
    torch.testing.assert_close(encode_images(vit, IMAGES, PARTS)['patch_mean'], own)


@torch.no_grad()
def test_tokens_without_a_class_token():
    config = {**MMPRETRAIN, 'with_cls_token': False, 'out_type': 'raw'}
    vit = load_backbone(config, None)
    assert default_feature(vit) == 'patch_mean'
    torch.testing.assert_close(encode_images(vit, IMAGES, ['patch_mean'])['patch_mean'], vit(IMAGES)[-1].mean(1))


@torch.no_grad()
def test_parts_after_a_block():
    all_blocks = load_backbone({**MMPRETRAIN, 'out_type': 'raw', 'out_indices': [0, 1, 2], 'final_norm': False}, None)
    for number, tokens in enumerate(all_blocks(IMAGES), start=1):
        found = encode_images(load_backbone(MMPRETRAIN, None, block=number), IMAGES, PARTS)
        torch.testing.assert_close(found['class_token'], tokens[:, 0])
        torch.testing.assert_close(found['patch_mean'], tokens[:, 1:].mean(1))


@torch.no_grad()
def test_several_extra_tokens():
    vit = load_backbone(MMPRETRAIN, None)
    vit.num_extra_tokens = 3
    tokens = torch.arange(10.0).view(1, 5, 2)
    assert pool_output(vit, tokens, 'patch_mean').tolist() == [[7.0, 8.0]]


@torch.no_grad()
@pytest.mark.parametrize(('config', 'pools'), [(RESNET, False), (CONVNEXT, True)])
def test_maps_and_vectors(config, pools):
    backbone = load_backbone(config, None)
    (output,) = backbone(IMAGES)
    assert default_feature(backbone) == 'patch_mean'
    expected = output if pools else output.mean((2, 3))
    torch.testing.assert_close(encode_images(backbone, IMAGES, ['patch_mean'])['patch_mean'], expected)


@pytest.mark.parametrize('block', [None, 2])
@pytest.mark.parametrize('name', ['class_token', 'both'])
def test_no_class_token(name, block):
    resnet = load_backbone(RESNET, None, block=block)
    with pytest.raises(ConfigError, match=f"feature '{name}': ResNet has no class token; use patch_mean"):
        check_features(resnet, [name])
    assert check_features(resnet) == check_features(resnet, ['patch_mean']) == ('patch_mean',)


def test_names():
    vit = load_backbone(OURS, None)
    assert check_features(vit) == ('class_token',)
    assert check_features(BlockFeature(load_backbone(BEIT, None), 1)) == ('class_token',)
    assert check_features(vit, ['patch_mean', 'both']) == ('patch_mean', 'both')
    assert feature_parts(['both']) == feature_parts(['patch_mean', 'class_token']) == PARTS
    with pytest.raises(ConfigError, match="feature is 'cls'; choose from class_token, patch_mean, both"):
        check_features(vit, ['cls'])


class Vector(nn.Module):
    """Has a class token, but gives one vector per image."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x.flatten(1)[:, :4],)


@torch.no_grad()
def test_an_encoder_that_hides_its_tokens_is_refused():
    assert np.array_equal(encode_images(Vector(), IMAGES, ['class_token'])['class_token'], IMAGES[:, 0, 0, :4])
    with pytest.raises(ConfigError, match=r"'patch_mean': Vector gives an output of shape \(3, 4\), expected tokens"):
        encode_images(Vector(), IMAGES, ['patch_mean'])
