"""Features of block k for every family of encoders."""

import torch
from helpers import vit_config
from torch import nn

from mmselfsup_graft.checkpoints import Depth
from mmselfsup_graft.evaluation import BlockFeature, load_backbone

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
CONVNEXT = dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 2, 1, 1], channels=[4, 8, 8, 12]))


@torch.no_grad()
def test_blocks_of_a_resnet():
    config = dict(type='mmpretrain.ResNet', depth=18)
    resnet = load_backbone(config, None)
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(IMAGES))))
    number = 0
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        for part in stage:
            x, number = part(x), number + 1
            (feature,) = load_backbone(config, None, block=number)(IMAGES)
            torch.testing.assert_close(feature, x.mean((2, 3)))
    assert number == 8


@torch.no_grad()
def test_blocks_of_a_convnext():
    convnext = load_backbone(CONVNEXT, None)
    x, number = IMAGES, 0
    for down, stage in zip(convnext.downsample_layers, convnext.stages):
        x = down(x)
        for part in stage:
            x, number = part(x), number + 1
            (feature,) = load_backbone(CONVNEXT, None, block=number)(IMAGES)
            torch.testing.assert_close(feature, x.mean((2, 3)))
    assert number == 5


@torch.no_grad()
def test_blocks_of_mmpretrains_own_vit():
    arch = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
    config = dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=32, patch_size=8)
    own = load_backbone({**config, 'out_type': 'raw', 'out_indices': [0, 1, 2], 'final_norm': False}, None)
    for number, tokens in enumerate(own(IMAGES), start=1):
        (feature,) = load_backbone(config, None, block=number)(IMAGES)
        torch.testing.assert_close(feature, tokens[:, 0])


@torch.no_grad()
def test_the_last_block_of_our_vit_is_not_the_class_token_path():
    config = vit_config(img_size=32, patch_size=8)
    vit = load_backbone(config, None)
    (feature,) = load_backbone(config, None, block=3)(IMAGES)
    torch.testing.assert_close(vit.ln1(feature), vit(IMAGES)[-1])


class Toy(nn.Module):
    """Tokens without a class token, and a depth of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.mixers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.depth = Depth(('embed',), (('mixers.0',), ('mixers.1',)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        for mixer in self.mixers:
            self.seen = x = mixer(self.embed(x) if x.shape[-1] == 2 else x)
        return (x.sum(1),)


def test_tokens_without_a_class_token_are_averaged():
    toy, x = Toy(), torch.randn(3, 5, 2)
    (feature,) = BlockFeature(toy, 2)(x)
    torch.testing.assert_close(feature, toy.seen.mean(1))
