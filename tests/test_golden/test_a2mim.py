"""A2MIM and SimMIM against golden numbers: backbones with a mask token, masks, filling, necks, heads, one step."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close, build, golden, golden_folder, tensor

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.models.losses import focal_frequency_loss
from mmselfsup_graft.models.masking import block_grid, block_mask_from_noise, expand_mask, fill_with_mean

METHOD = 'a2mim'


def read(name: str) -> tuple[dict[str, Any], Any]:
    """Arrays of a golden file and its settings."""
    arrays = golden(name if name.endswith('.npz') else f'{name}.npz', METHOD)
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
            type='MaskedResNet',
            depth=settings['depth'],
            stem_channels=width,
            base_channels=settings.get('width') or settings['base_channels'],
        )
    else:
        config = dict(type='MaskedConvNeXt', arch=settings['arch'], gap_before_final_norm=False)
    gain = 1e-6 if 'mask_gamma' in state else 0.0  # its start; the recorded values are loaded
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
    arrays, settings = read('mask_generator.npz')
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


@pytest.mark.parametrize('name', files('mean_fill_'))
def test_masked_pixels_take_the_mean_colour(name: str) -> None:
    arrays, settings = read(name)
    image, mask = tensor(arrays['image'])[None], tensor(arrays['mask'])[None]
    assert mask.shape[-1] == settings['input_size'] // settings['model_patch_size']
    filled = fill_with_mean(image, expand_mask(mask, (image.shape[2], image.shape[3])))
    assert_close(filled[0], arrays['filled'], rtol=1e-5)
    assert_close(image.mean((2, 3))[0], arrays['mean'], rtol=1e-5)


# ---------------------------------------------------------------- necks, heads, Fourier loss, one step
def neck_config(settings: Mapping[str, Any], channels: int) -> dict[str, Any]:
    block = settings.get('decoder_cfg') or {}
    return dict(
        type='PixelShuffleNeck',
        in_channels=settings['in_channels'],
        stride=settings['encoder_stride'],
        out_channels=channels,
        block_kernel=block.get('kernel_size', 0),
    )


def our_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors with the names of our one neck, which the published code has twice under different ones."""
    pairs = {'decoder.conv.0.conv.': 'block.0.', 'decoder.conv.0.ln.': 'block.1.', 'decoder_pred.': 'decoder.'}
    for theirs, ours in pairs.items():
        state = {name.replace(theirs, ours): value for name, value in state.items()}
    return dict(state)


@pytest.mark.parametrize('name', files('neck_'))
def test_necks(name: str) -> None:
    arrays, settings = read(name)
    neck = loaded(neck_config(settings, arrays['image'].shape[1]), our_names(state_of(arrays)))
    assert_close(neck((tensor(arrays['feat']),)), arrays['image'], rtol=1e-5)


def head_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    if settings['type'] == 'SimMIMHead':
        return {'type': 'SimMIMHead'}
    error = {
        key: settings['loss'][key] for key in ('alpha', 'gamma', 'activate', 'residual') if key in settings['loss']
    }
    names = ('unmask_weight', 'fft_weight', 'fft_focal', 'fft_unmask_weight', 'fft_unmask_replace', 'fft_reweight')
    given = {name: settings[name] for name in names}
    return {'type': 'A2MIMHead', 'mode': settings['loss']['mode'].removesuffix('_loss'), **error, **given}


@pytest.mark.parametrize('name', files('head_'))
def test_heads(name: str) -> None:
    arrays, settings = read(name)
    prediction = tensor(arrays['rec']).requires_grad_()
    losses = build(head_config(settings)).loss(prediction, tensor(arrays['x']), tensor(arrays['mask']))
    assert ('loss_fourier' in losses) == (settings.get('fft_weight', 0) > 0)
    loss = sum(losses.values())
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    assert_close(prediction.grad, arrays['grad_rec'], rtol=1e-4)


@pytest.mark.parametrize('name', files('ffl_'))
def test_focal_frequency_loss(name: str) -> None:
    arrays, settings = read(name)
    prediction, target = tensor(arrays['pred']).requires_grad_(), tensor(arrays['target'])
    matrix = tensor(arrays['matrix']) if 'matrix' in arrays else None
    options = {key: settings[key] for key in ('alpha', 'log_matrix', 'batch_matrix')}
    loss = focal_frequency_loss(
        prediction - target, average_spectrum=settings['ave_spectrum'], matrix=matrix, **options
    )
    loss = settings['loss_weight'] * loss
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    assert_close(prediction.grad, arrays['grad_pred'], rtol=1e-4)


@pytest.mark.parametrize('name', files('e2e_'))
def test_one_step(name: str) -> None:
    arrays, settings = read(name)
    inner = state_of(arrays, 'sd.backbone.')
    config = {
        'type': settings['algorithm'],
        'mask_patch': settings['mask_patch_size'],
        'backbone': backbone_config(settings['backbone'], inner),
        'neck': neck_config(settings['neck'], arrays['raw'].shape[1]),
        'head': head_config(settings['head']),
    }
    model = loaded(config, our_names(state_of(arrays)))
    images, mask = tensor(arrays['raw']), tensor(arrays['mask'])
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    prediction, pixels = model.reconstruct(images, mask)
    assert_close(seen[0], arrays['input'], rtol=1e-6)
    assert_close(prediction, arrays['rec'], rtol=1e-5)
    assert pixels.sum() == mask.sum() * (images.shape[-1] // mask.shape[-1]) ** 2
    loss = sum(model.loss(images, mask=mask).values())
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradients = our_names({n.removeprefix('grad.'): v for n, v in arrays.items() if n.startswith('grad.')})
    norms = our_names({n.removeprefix('norm.grad.'): v for n, v in arrays.items() if n.startswith('norm.grad.')})
    assert gradients
    for parameter, gradient in gradients.items():
        assert_close(found[parameter], gradient, rtol=1e-4, name=parameter)
    for parameter, norm in norms.items():
        assert_close(found[parameter].norm(), norm, rtol=1e-4, name=parameter)
