"""SimMIM and the mask token against the golden numbers of A2MIM's set."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close, build, golden, golden_folder, tensor

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.models.masking import block_grid, block_mask_from_noise, expand_mask

METHOD = 'a2mim'


def read(name: str) -> tuple[dict[str, Any], Any]:
    """Arrays of a golden file and its settings."""
    arrays = golden(f'{name}.npz', METHOD)
    return arrays, json.loads(str(arrays['config'])) if 'config' in arrays else {}


def files(prefix: str) -> list[str]:
    """Names of the golden files with a prefix in the chosen set; one that is missing, to skip, if there are none."""
    folder = golden_folder(METHOD)
    found = sorted(path.stem for path in folder.glob(f'{prefix}*.npz')) if folder.is_dir() else []
    return found or [f'{prefix}missing']


def state_of(arrays: Mapping[str, Any], prefix: str = 'sd.') -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor(value) for name, value in arrays.items() if name.startswith(prefix)}


# ---------------------------------------------------------------- backbones
def backbone_config(settings: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Our config of a recorded backbone; sizes come from its settings and tensors."""
    if 'ViT' in settings['type']:
        config = transformer_config(settings)
    elif 'ResNet' in settings['type']:
        width = state['conv1.weight'].shape[0]
        config = dict(
            type='MaskedResNet', depth=settings['depth'], stem_channels=width, base_channels=settings['width']
        )
    else:
        config = dict(type='MaskedConvNeXt', arch=settings['arch'], gap_before_final_norm=False)
    gain = float(state['mask_gamma'].flatten()[0]) if 'mask_gamma' in state else 0.0
    return {**config, 'mask_layer': settings['mask_layer'], 'mask_replace': settings['replace'], 'mask_gain': gain}


def transformer_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {key: settings[key] for key in ('arch', 'img_size', 'patch_size')}
    common = dict(**sizes, final_norm=True, out_type='featmap', drop_path_rate=settings['drop_path_rate'])
    if settings['use_window']:  # relative position biases and layer scale
        scale = settings['init_values']
        return dict(type='MaskedBEiT', use_abs_pos_emb=True, layer_scale_init_value=scale, **common)
    return dict(type='MaskedViT', **common)


def loaded(config: dict[str, Any], state: Mapping[str, torch.Tensor]) -> Any:
    """The model in double precision and eval mode; step counters alone may be missing in the recorded tensors."""
    model = build(config).double()
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(name.endswith('num_batches_tracked') for name in result.missing_keys)
    model.eval()
    return model


@pytest.mark.parametrize('name', files('backbone_'))
def test_backbones(name: str) -> None:
    arrays, settings = read(name)
    state = state_of(arrays)
    model = loaded(backbone_config(settings, state), state)
    images, mask = tensor(arrays['x']).requires_grad_(), tensor(arrays['mask'])
    features = model(images, mask=mask)[-1]
    assert_close(features, arrays['feat_eval'], rtol=1e-5)
    (features * tensor(arrays['probe'])).sum().backward()
    assert_close(images.grad, arrays['grad_x'], rtol=1e-4)
    assert_close(model.mask_token.grad, arrays['grad_mask_token'], rtol=1e-4)
    assert ('grad_mask_gamma' in arrays) == (model.mask_gamma is not None)
    if model.mask_gamma is not None:
        assert_close(model.mask_gamma.grad, arrays['grad_mask_gamma'], rtol=1e-4)
    if 'feat_train' in arrays:
        # in the precision of the recording: statistics of a handful of values magnify its rounding
        model.float().train()
        assert_close(model(images.detach().float(), mask=mask)[-1], arrays['feat_train'], rtol=1e-5)
    depth = depth_of(model)
    assert depth.layer_id('mask_token') == 0
    assert {depth.layer_id(n) for n, _ in model.named_parameters()} >= set(range(depth.num_blocks + 1))


# ---------------------------------------------------------------- masks
def test_mask_generator() -> None:
    arrays, settings = read('mask_generator')
    for number, each in enumerate(settings):
        size, patch = each['input_size'], each['mask_patch_size']
        grid = block_grid((size, size), patch)
        assert grid[0] * grid[1] == each['token_count']
        order = tensor(arrays[f'perm_{number}'])
        noise = order.argsort().double().view(1, *grid)  # the smallest noise where the permutation begins
        mask = block_mask_from_noise(noise, each['mask_ratio'])
        assert mask.sum() == each['mask_count']
        side = size // each['model_patch_size']
        assert np.array_equal(expand_mask(mask, (side, side))[0, 0].numpy(), arrays[f'mask_{number}'])


# ---------------------------------------------------------------- neck, head, one step
def neck_config(settings: Mapping[str, Any], channels: int) -> dict[str, Any]:
    return dict(
        type='PixelShuffleNeck',
        in_channels=settings['in_channels'],
        stride=settings['encoder_stride'],
        out_channels=channels,
    )


@pytest.mark.parametrize('name', files('neck_simmim'))
def test_neck(name: str) -> None:
    arrays, settings = read(name)
    neck = loaded(neck_config(settings, arrays['image'].shape[1]), state_of(arrays))
    assert_close(neck((tensor(arrays['feat']),)), arrays['image'], rtol=1e-5)


@pytest.mark.parametrize('name', [*files('head_simmim'), 'head_pixelmask_simmim'])
def test_head(name: str) -> None:
    arrays, settings = read(name)
    assert settings['type'] == 'SimMIMHead'
    prediction = tensor(arrays['rec']).requires_grad_()
    loss = build({'type': 'SimMIMHead'}).loss(prediction, tensor(arrays['x']), tensor(arrays['mask']))
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    assert_close(prediction.grad, arrays['grad_rec'], rtol=1e-4)


@pytest.mark.parametrize('name', files('e2e_simmim'))
def test_one_step(name: str) -> None:
    arrays, settings = read(name)
    inner = state_of(arrays, 'sd.backbone.')
    config = {
        'type': 'SimMIM',
        'mask_patch': settings['mask_patch_size'],
        'backbone': backbone_config(settings['backbone'], inner),
        'neck': neck_config(settings['neck'], arrays['raw'].shape[1]),
        'head': {'type': 'SimMIMHead'},
    }
    model = loaded(config, state_of(arrays))
    images, mask = tensor(arrays['input']), tensor(arrays['mask'])
    prediction, pixels = model.reconstruct(images, mask)
    assert_close(prediction, arrays['rec'], rtol=1e-5)
    assert pixels.sum() == mask.sum() * (images.shape[-1] // mask.shape[-1]) ** 2
    loss = model.loss(images, mask=mask)['loss']
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    parameters = dict(model.named_parameters())
    recorded = {n.removeprefix('grad.'): v for n, v in arrays.items() if n.startswith('grad.')}
    assert recorded
    for parameter, gradient in recorded.items():
        assert_close(parameters[parameter].grad, gradient, rtol=1e-4, name=parameter)
