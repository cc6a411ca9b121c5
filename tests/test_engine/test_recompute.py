"""Blocks computed again in the backward pass: equal gradients, fewer kept tensors, statistics that move once."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from helpers import build, mae_config, mlp_config, moco_config, tec_config, vit_config
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmselfsup_graft.engine.execution.recompute import checkpoint_activations
from mmselfsup_graft.engine.execution.stacks import block_stacks
from mmselfsup_graft.errors import ConfigError

BATCH = 4


def resnet() -> dict[str, Any]:
    """SimMIM on a small ResNet."""
    sizes = dict(depth=18, stem_channels=4, base_channels=4, zero_init_residual=False)
    backbone = dict(type='MaskedResNetCIFAR', drop_path_rate=0.3, **sizes)
    return masked(backbone, 32, 8)


def masked(backbone: dict[str, Any], width: int, stride: int) -> dict[str, Any]:
    """SimMIM on a backbone of that many output channels."""
    neck = dict(type='PixelShuffleNeck', in_channels=width, stride=stride)
    return dict(type='SimMIM', backbone=backbone, neck=neck, head=dict(type='SimMIMHead'), mask_patch=stride)


DROPPING = vit_config(depth=4, drop_path_rate=0.3, drop_rate=0.1)
MODELS: dict[str, dict[str, Any]] = {
    'mae': mae_config(DROPPING, decoder_depth=2),
    'moco': moco_config(DROPPING),
    'moco-resnet': {
        **moco_config(),
        'backbone': dict(type='SelfSupResNet', depth=18, stem_channels=4, base_channels=4, zero_init_residual=False),
        'neck': mlp_config(32, 32, 8, 2, with_avg_pool=True),
    },
    'resnet': resnet(),
    'convnext': masked(
        dict(
            type='MaskedConvNeXt',
            arch=dict(depths=[1, 1, 2, 1], channels=[4, 8, 16, 32]),
            drop_path_rate=0.3,
            layer_scale_init_value=1.0,
            gap_before_final_norm=False,
        ),
        32,
        32,
    ),
    'swin': masked(
        dict(
            type='MaskedSwin',
            arch=dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2]),
            img_size=64,
            window_size=2,
        ),
        64,
        32,
    ),
    'beit': masked(dict(DROPPING, type='MaskedBEiT', img_size=64, patch_size=16), 16, 16),
}


def model_of(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    model = build(config)
    model.init_weights()
    return model.to(dtype).train()


def one_pass(model: nn.Module, dtype: torch.dtype = torch.float64) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a fixed batch with fixed random numbers, and how many numbers were kept for them."""
    side = model.backbone.img_size if hasattr(model.backbone, 'img_size') else 64
    side = side if isinstance(side, int) else side[0]
    generator = torch.Generator().manual_seed(2)
    views = [torch.randn(BATCH, 3, side, side, generator=generator, dtype=dtype) for _ in range(2)]
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * (not isinstance(tensor, nn.Parameter))
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        losses = model.loss(views if type(model).__name__ == 'MoCoV3' else views[0])
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize('name', MODELS)
def test_gradients_and_statistics_are_equal_and_less_is_kept(name: str) -> None:
    plain, recomputed = model_of(MODELS[name]), model_of(MODELS[name])
    assert checkpoint_activations(recomputed) > 2
    (expected, much), (gradients, little) = one_pass(plain), one_pass(recomputed)
    assert set(gradients) == set(expected)
    for key, value in expected.items():
        assert torch.equal(gradients[key], value), key
    for (key, value), other in zip(plain.state_dict().items(), recomputed.state_dict().values(), strict=True):
        assert torch.equal(other, value), key
    assert little < 0.7 * much
    assert list(recomputed.state_dict()) == list(plain.state_dict())


def test_random_numbers_are_drawn() -> None:
    """Equal gradients above say something about dropped paths only if paths are dropped."""
    model = model_of(MODELS['mae'])
    first, _ = one_pass(model)
    for module in model.modules():
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    second, _ = one_pass(model)
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_deeper_models_keep_little_more() -> None:
    kept = {}
    for depth in (2, 8):
        models = [model_of(mae_config(vit_config(depth=depth))) for _ in range(2)]
        checkpoint_activations(models[1])
        kept[depth] = [one_pass(model)[1] for model in models]
    plain, recomputed = (kept[8][i] - kept[2][i] for i in range(2))
    assert recomputed < 0.1 * plain


def test_half_precision_recomputes_with_the_same_attention() -> None:
    models = [model_of(MODELS['mae'], torch.float32) for _ in range(2)]
    checkpoint_activations(models[1])
    results = []
    for model in models:
        with torch.autocast('cpu', torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            torch.manual_seed(3)
            loss = model.loss(torch.randn(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(2)))['loss']
        loss.backward()
        results.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for key, value in results[0].items():
        assert torch.equal(results[1][key], value), key


def test_a_copy_recomputes_with_its_own_weights() -> None:
    model = model_of(MODELS['mae'])
    checkpoint_activations(model)
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(0.5)
    expected = model_of(MODELS['mae'])
    expected.load_state_dict(copy.state_dict())
    for key, value in one_pass(expected)[0].items():
        assert torch.equal(one_pass(copy)[0][key], value), key


def test_blocks_of_encoder_decoder_and_momentum_encoder_are_found_once() -> None:
    assert [len(stack) for stack in block_stacks(build(MODELS['moco']))] == [4, 4]
    assert [len(stack) for stack in block_stacks(build(MODELS['mae']))] == [4, 2]
    # TEC's base model is never trained and no part of the model
    assert [len(stack) for stack in block_stacks(build(tec_config(vit_config(depth=3))))] == [3, 1]


def test_a_model_without_known_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match='Linear has no blocks of a known class; known: TransformerEncoderLayer'):
        checkpoint_activations(nn.Linear(2, 2))
