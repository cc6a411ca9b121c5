"""Encoders of whole A2MIM models in detectors and segmentors, by file and at another image size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build

from mmselfsup_graft.checkpoints import convert, save_atomically
from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.targets.target_check import build_target_model, check_target_model

CONFIGS = Path(__file__).parents[2] / 'configs' / 'a2mim'
ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)
SMALL = {
    'resnet': ('a2mim_resnet50_8xb256-coslr-300e_in1k', dict(stem_channels=8, base_channels=8)),
    'convnext': (
        'a2mim_convnext-tiny_8xb256-amp-coslr-300e_in1k',
        dict(arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32])),
    ),
    'vit': ('a2mim_vit-base-p16_8xb128-steplr-800e_in1k', dict(arch=ARCH, img_size=64)),
}


def pre_trained(kind: str) -> Any:
    """The model of a config with a narrow backbone, in eval mode, with weights it would not start from."""
    torch.manual_seed(0)
    name, backbone = SMALL[kind]
    config = load_config(CONFIGS / f'{name}.py').model
    config.backbone.update(backbone)
    model = build(config)
    for key, value in model.backbone.state_dict().items():
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand_like(value) if 'var' in key else 0.2 * torch.randn_like(value))
    model.eval()
    return model


@pytest.mark.parametrize('target', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('kind', ['resnet', 'convnext'])
@torch.no_grad()
def test_convolutional_networks(kind: str, target: str) -> None:
    model = pre_trained(kind)
    done = convert({'state_dict': model.state_dict()}, 'a2mim.pth', target)
    fit = check_target_model(done)
    assert fit.good, fit.problem()
    built = build_target_model(done)
    missing, unexpected = built.load_state_dict(done.bare_state, strict=False)
    assert (set(missing), unexpected) == (set(fit.fresh), [])
    built.eval()
    image = torch.randn(1, 3, 64, 64)
    found = built(image)[-1]
    if kind == 'convnext':  # norm after the pooling there, on the map in pre-training
        stages = [*zip(model.backbone.downsample_layers, model.backbone.stages)]
        expected = image
        for down, stage in stages:
            expected = stage(down(expected))
        expected = model.backbone.norm3(expected.mean((2, 3), keepdim=True)).flatten(1)
    else:
        expected = model.backbone(image)[-1]
    torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_vit_in_mmseg_at_the_size_of_its_crops(tmp_path: Path) -> None:
    model = pre_trained('vit')
    save_atomically({'state_dict': model.state_dict()}, tmp_path / 'a2mim.pth')
    segmentor = dict(
        type='mmpretrain.BEiTViT',
        arch=ARCH,
        img_size=96,
        patch_size=16,
        out_type='featmap',
        out_indices=[0, 1, 2],
        final_norm=False,
        use_abs_pos_emb=True,
    )
    backbone = build(segmentor)
    report = load_pretrained(PretrainedPart('backbone', backbone, str(tmp_path / 'a2mim.pth')))
    assert '4 of them resized: backbone.layers (3), backbone.pos_embed (1)' in report
    assert [each.shape for each in backbone(torch.randn(1, 3, 96, 96))] == [(1, 24, 6, 6)] * 3
    for target in ('mmseg', 'mmseg-mae'):
        done = convert({'state_dict': model.state_dict()}, 'a2mim.pth', target, img_size=(96, 96))
        fit = check_target_model(done)
        assert fit.good, fit.problem()
        built = build_target_model(done, 3)
        built.load_state_dict(done.bare_state, strict=False)
        built.eval()
        built.out_type, built.out_indices = 'featmap', [0, 1, 2]
        image = torch.randn(1, 3, 96, 96)
        backbone.eval()
        for one, other in zip(built(image), backbone(image)):
            torch.testing.assert_close(one, other, rtol=0, atol=5e-5)
