"""A2MIM and SimMIM against golden numbers: backbones with a mask token, masks, filling, necks, heads, one step."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import golden_file, golden_names, some, starting
from helpers import assert_close, build, tensor

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.models.losses import focal_frequency_loss
from mmselfsup_graft.models.masking import block_grid, block_mask_from_noise, expand_mask, fill_with_mean

METHOD = 'a2mim'


def files(kind: str) -> list[str]:
    """Names of the golden files of a kind."""
    return golden_names(kind, METHOD)


def read(name: str) -> tuple[dict[str, Any], Any]:
    """Arrays of a golden file and its settings."""
    arrays = golden_file(name, METHOD)
    return arrays, json.loads(str(arrays['config'])) if 'config' in arrays else {}


def state_of(arrays: Mapping[str, Any], prefix: str = 'sd.') -> dict[str, torch.Tensor]:
    return {name: tensor(value) for name, value in some(starting(arrays, prefix)).items()}


# ---------------------------------------------------------------- backbones
def backbone_config(settings: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Our config of a recorded backbone; sizes come from its settings and tensors."""
    if 'ViT' in settings['type']:
        config = transformer_config(settings, state)
    elif 'ResNet' in settings['type']:
        widths = {'stem_channels': 'conv1.weight', 'base_channels': 'layer1.0.conv1.weight'}
        sizes = {argument: state[name].shape[0] for argument, name in widths.items()}
        config = dict(type='MaskedResNet', depth=settings['depth'], **sizes)
    else:
        pooled = settings.get('gap_before_final_norm', False)
        config = dict(type='MaskedConvNeXt', arch=settings['arch'], gap_before_final_norm=pooled)
    return {**config, **token_config(settings, state)}


def token_config(settings: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the token is and does; by default it is learned, as in all published runs."""
    return dict(
        mask_layer=settings['mask_layer'],
        mask_replace=settings['replace'],
        mask_kind=settings.get('mask_token', 'learnable') or 'none',
        mask_detach=settings.get('detach', False),
        mask_gain=1e-6 if 'mask_gamma' in state else 0.0,  # its start; the recorded values are loaded
    )


def transformer_config(settings: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    common = dict(
        arch=settings['arch'],
        img_size=settings['img_size'],
        patch_size=state['patch_embed.projection.weight'].shape[-1],
        in_channels=state['patch_embed.projection.weight'].shape[1],
        layer_scale_init_value=0.1 if any('.gamma_1' in name for name in state) else 0.0,  # loaded as well
        drop_path_rate=settings.get('drop_path_rate', 0.0),
        out_type='featmap',
        final_norm='ln1.weight' in state,
    )
    if any('relative_position' in name for name in state):
        return dict(type='MaskedBEiT', use_abs_pos_emb='pos_embed' in state, **common)
    return dict(type='MaskedViT', **common)


def of_our_kind(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as our classes have them; layer scale has other names in a plain ViT than beside relative positions."""
    if any('relative_position' in name for name in state):
        return dict(state)
    pairs = {'1': 'attn.gamma1.weight', '2': 'ffn.gamma2.weight'}
    scale = re.compile(r'(?<=\.)gamma_([12])$')
    return {scale.sub(lambda match: pairs[match[1]], name): value for name, value in state.items()}


def loaded(config: dict[str, Any], state: Mapping[str, torch.Tensor]) -> Any:
    """The model in double precision and eval mode.

    Step counters may be missing in the recorded tensors, and a token that is zero. Of no use may be a token that ours
    takes from the features, where the published code keeps what it took last.
    """
    model = build(config).double()
    result = model.load_state_dict(state, strict=False)
    kind = getattr(getattr(model, 'backbone', model), 'mask_kind', '')
    computed = {'mask_token'} if kind in ('mean', 'instance_mean', 'none') else set()
    assert {name.rpartition('.')[2] for name in result.unexpected_keys} <= computed
    left = {'num_batches_tracked', 'mask_token'} if kind == 'zero' else {'num_batches_tracked'}
    assert {name.rpartition('.')[2] for name in result.missing_keys} <= left
    model.eval()
    return model


@pytest.mark.parametrize('name', files('backbone'))
def test_backbones(name: str) -> None:
    arrays, settings = read(name)
    state = state_of(arrays)
    model = loaded(backbone_config(settings, state), of_our_kind(state))
    images, mask = tensor(arrays['x']).requires_grad_(), tensor(arrays['mask'])
    features = model(images, mask=mask)[-1]
    assert_close(features, arrays['feat_eval'], rtol=1e-5)
    (features * tensor(arrays['probe'])).sum().backward()
    assert_close(images.grad, arrays['grad_x'], rtol=1e-4)
    for part, value in starting(arrays, 'grad_mask_').items():
        assert_close(getattr(model, f'mask_{part}').grad, value, rtol=1e-4, name=part)
    if 'feat_train' in arrays:
        # in the precision of the recording: statistics of a handful of values magnify its rounding
        model.float().train()
        assert_close(model(images.detach().float(), mask=mask)[-1], arrays['feat_train'], rtol=1e-5)
    depth = depth_of(model)
    assert depth.layer_id('mask_token') == 0
    assert {depth.layer_id(n) for n, _ in model.named_parameters()} >= set(range(depth.num_blocks + 1))


# ---------------------------------------------------------------- masks
@pytest.mark.parametrize('name', files('masks'))
def test_mask_generator(name: str) -> None:
    arrays, settings = read(name)
    for number, each in enumerate(some(settings, 'settings')):
        size, patch = each['input_size'], each['mask_patch_size']
        grid = block_grid((size, size), patch)
        assert grid[0] * grid[1] == each['token_count']
        order = tensor(arrays[f'perm_{number}'])
        noise = order.argsort().double().view(1, *grid)  # the smallest noise where the permutation begins
        mask = block_mask_from_noise(noise, each['mask_ratio'])
        assert mask.sum() == each['mask_count']
        side = size // each['model_patch_size']
        assert np.array_equal(expand_mask(mask, (side, side))[0, 0].numpy(), arrays[f'mask_{number}'])


@pytest.mark.parametrize('name', files('mean_fill'))
def test_masked_pixels_take_the_mean_color(name: str) -> None:
    arrays, _ = read(name)
    image, mask = tensor(arrays['image'])[None], tensor(arrays['mask'])[None]
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
        kernel_size=settings.get('kernel_size', 1),
    )


def our_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors with the names of our one neck, which the published code has twice under different ones."""
    pairs = {'decoder.conv.0.conv.': 'block.0.', 'decoder.conv.0.ln.': 'block.1.', 'decoder_pred.': 'decoder.'}
    for theirs, ours in pairs.items():
        state = {name.replace(theirs, ours): value for name, value in state.items()}
    return dict(state)


@pytest.mark.parametrize('name', files('neck'))
def test_necks(name: str) -> None:
    arrays, settings = read(name)
    neck = loaded(neck_config(settings, arrays['image'].shape[1]), our_names(state_of(arrays)))
    assert_close(neck((tensor(arrays['feat']),)), arrays['image'], rtol=1e-5)


def head_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    if settings['type'] == 'SimMIMHead':
        return {'type': 'SimMIMHead'}
    loss = settings['loss']
    error = {key: loss[key] for key in ('alpha', 'gamma', 'activate', 'residual') if key in loss}
    names = ('unmask_weight', 'fft_weight', 'fft_focal', 'fft_unmask_weight', 'fft_unmask_replace', 'fft_reweight')
    given = {name: settings[name] for name in names if name in settings}
    return {'type': 'A2MIMHead', 'mode': loss['mode'].removesuffix('_loss'), **error, **given}


@pytest.mark.parametrize('name', files('head'))
def test_heads(name: str) -> None:
    arrays, settings = read(name)
    prediction = tensor(arrays['rec']).requires_grad_()
    losses = build(head_config(settings)).loss(prediction, tensor(arrays['x']), tensor(arrays['mask']))
    assert ('loss_fourier' in losses) == (settings.get('fft_weight', 0) > 0)
    loss = sum(losses.values())
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    assert_close(prediction.grad, arrays['grad_rec'], rtol=1e-4)


@pytest.mark.parametrize('name', files('frequency_loss'))
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


def input_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How masked pixels are filled; SimMIM never fills them."""
    if settings['algorithm'] == 'SimMIM':
        return {}
    return {'fill': 'mean' if settings['mask_color'] == 'mean' else None, 'residual': settings.get('residual', False)}


def step_model(name: str) -> Any:
    """The model of a recorded step."""
    arrays, settings = read(name)
    inner = state_of(arrays, 'sd.backbone.')
    config = {
        'type': settings['algorithm'],
        'mask_patch': settings['mask_patch_size'],
        'backbone': backbone_config(settings['backbone'], inner),
        'neck': neck_config(settings['neck'], arrays['raw'].shape[1]),
        'head': head_config(settings['head']),
        **input_config(settings),
    }
    return loaded(config, our_names(of_our_kind(state_of(arrays))))


@pytest.mark.parametrize('name', files('step'))
def test_one_step(name: str) -> None:
    arrays, model = read(name)[0], step_model(name)
    images, mask = tensor(arrays['raw']), tensor(arrays['mask'])
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    prediction, pixels = model.reconstruct(images, mask)
    assert_close(seen[0], arrays['input'], rtol=1e-6)
    assert_close(prediction, arrays['rec'], rtol=1e-5)
    assert pixels.sum() == mask.sum() * images[0, 0].numel() // mask[0].numel()
    loss = sum(model.loss(images, mask=mask).values())
    assert_close(loss, arrays['loss'], rtol=1e-5)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradients, norms = (our_names(starting(arrays, prefix)) for prefix in ('grad.', 'norm.grad.'))
    some({**gradients, **norms}, 'gradients')
    for parameter, gradient in gradients.items():
        assert_close(found[parameter], gradient, rtol=1e-4, name=parameter)
    for parameter, norm in norms.items():
        assert_close(found[parameter].norm(), norm, rtol=1e-4, name=parameter)
