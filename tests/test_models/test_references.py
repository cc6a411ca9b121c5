"""Every algorithm gives losses, gradients, averages and running statistics of its slow form in ``tests/reference``."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from helpers import (
    assert_close,
    build,
    mae_config,
    mlp_config,
    moco_config,
    multi_task_config,
    tec_config,
    vit_config,
)
from torch import nn

import mmselfsup_graft.models
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import SelfSupAlgorithm
from mmselfsup_graft.models.batch_norm import ViewNorm
from mmselfsup_graft.models.blocks import EncoderBlock

BATCH = 4


def _views(count: int, size: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, 3, size, size, generator=generator, dtype=torch.float64) for _ in range(count)]


def _vit(**options: Any) -> dict[str, Any]:
    return vit_config(**{'depth': 2, **options})


def _resnet_moco(norm: str, **options: Any) -> dict[str, Any]:
    """MoCo v3 on a small ResNet with batch norm inside."""
    resnet = {'type': 'mmpretrain.ResNet_CIFAR', 'depth': 18, 'stem_channels': 4, 'base_channels': 4}
    resnet.update(zero_init_residual=False, norm_cfg={'type': norm})
    config = moco_config({'arch': {'embed_dims': 32}}, **options)
    return {**config, 'backbone': resnet, 'neck': mlp_config(32, 32, 8, 2, with_avg_pool=True)}


def _simclr(norm: str = 'BN1d', head: str = 'NTXentHead', **norm_options: Any) -> dict[str, Any]:
    neck = mlp_config(16, 32, 8, 2, norm_cfg={'type': norm, **norm_options})
    return {'type': 'JointEmbedding', 'backbone': _vit(), 'neck': neck, 'head': {'type': head}}


def _simmim_and_moco() -> dict[str, Any]:
    """SimMIM and MoCo v3, patch embedding frozen, on one ViT with a mask token: the one reads its map of patches."""
    backbone = {**_vit(stop_grad_patch_embed=True), 'type': 'MaskedViT', 'out_type': 'featmap'}
    neck = {'type': 'PixelShuffleNeck', 'in_channels': 16, 'stride': 4}
    mim = {'type': 'SimMIM', 'mask_patch': 8, 'neck': neck, 'head': {'type': 'SimMIMHead'}}
    contrastive = {key: value for key, value in moco_config().items() if key != 'backbone'}
    contrastive['neck'] = {**contrastive['neck'], 'with_avg_pool': True}
    objectives = {'mim': {'model': mim, 'views': 0}, 'cl': {'model': contrastive, 'views': [1, 2]}}
    return {'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}


def _masked_moco(**patches: Any) -> dict[str, Any]:
    """MoCo v3 on masked views, with another patch embedding."""
    return moco_config(_vit(patch_cfg=patches), view_mask_ratio=0.5)


def _masked(kind: str, backbone: dict[str, Any], width: int, stride: int, **head: Any) -> dict[str, Any]:
    """SimMIM or A2MIM."""
    neck = {'type': 'PixelShuffleNeck', 'in_channels': width, 'stride': stride}
    return {'type': kind, 'mask_patch': 8, 'backbone': backbone, 'neck': neck, 'head': {'type': f'{kind}Head', **head}}


def _masked_resnet(**options: Any) -> dict[str, Any]:
    return {'type': 'MaskedResNetCIFAR', 'depth': 18, 'stem_channels': 4, 'base_channels': 4, **options}


ADDED = dict(mask_layer=2, mask_replace=False, mask_gain=0.1)  # A2MIM's token
TOKENS = dict(num_registers=2, qk_norm=True, layer_scale_init_value=0.3)
# config and number of views
CASES: dict[str, tuple[Callable[[], dict[str, Any]], int]] = {
    'MAE': (partial(mae_config, _vit(), decoder_depth=2), 1),
    'MAE, raw pixels, one block': (partial(mae_config, _vit(), norm_pix=False), 1),
    'MAE without decoder blocks': (partial(mae_config, _vit(), decoder_depth=0), 1),
    'MAE of other shares': (partial(mae_config, _vit(qkv_bias=False, layer_scale_init_value=0.3), mask_ratio=0.4), 1),
    'MoCo v3': (partial(moco_config, _vit()), 2),
    'MoCo v3, frozen patch embedding': (partial(moco_config, _vit(stop_grad_patch_embed=True)), 2),
    'MoCo v3, masked views': (partial(moco_config, _vit(), view_mask_ratio=0.5), 2),
    'MoCo v3, masked views, patches with a norm': (partial(_masked_moco, norm_cfg={'type': 'LN'}), 2),
    'MoCo v3, masked views, patches of padded images': (partial(_masked_moco, kernel_size=5, stride=5), 2),
    'MoCo v3, masked views, patches with a border': (partial(_masked_moco, padding=2), 2),
    'MoCo v3, masked views, overlapping patches': (
        partial(_masked_moco, kernel_size=6, stride=4, padding=1, norm_cfg={'type': 'LN'}),
        2,
    ),
    'MoCo v3, layer scale, no bias of attention': (
        partial(moco_config, _vit(qkv_bias=False, layer_scale_init_value=0.3)),
        2,
    ),
    'MoCo v3, both': (partial(moco_config, _vit(stop_grad_patch_embed=True), view_mask_ratio=0.5), 2),
    'MoCo v3 on a ViT with a mask token': (
        partial(moco_config, {**_vit(stop_grad_patch_embed=True), 'type': 'MaskedViT'}),
        2,
    ),
    'MoCo v3, frozen layers': (partial(moco_config, _vit(), frozen_layers=1), 2),
    'MoCo v3 on a ResNet': (partial(_resnet_moco, 'BN'), 2),
    'MoCo v3 on a ResNet with our norm': (partial(_resnet_moco, 'PortableSyncBN', frozen_layers=2), 2),
    'SimCLR': (_simclr, 2),
    'VICReg': (partial(_simclr, head='VICRegHead'), 2),
    'TEC': (partial(tec_config, _vit(), neck={'decoder_depth': 2}), 1),
    'TEC, one block': (partial(tec_config, _vit()), 1),
    'TEC, features only': (partial(tec_config, _vit(), topk=None), 1),
    'multi-task': (partial(multi_task_config, _vit()), 3),
    'SimMIM and MoCo v3': (_simmim_and_moco, 3),
    'MAE, registers and norms of queries': (partial(mae_config, _vit(**TOKENS)), 1),
    'MoCo v3, registers and norms of queries': (partial(moco_config, _vit(**TOKENS)), 2),
    'TEC, registers and norms of queries': (partial(tec_config, _vit(**TOKENS), base=TOKENS), 1),
    'SimMIM': (partial(_masked, 'SimMIM', {**_vit(), 'type': 'MaskedViT', 'out_type': 'featmap'}, 16, 4), 1),
    'SimMIM on a ResNet': (partial(_masked, 'SimMIM', _masked_resnet(), 32, 8), 1),
    'A2MIM': (partial(_masked, 'A2MIM', _masked_resnet(**ADDED), 32, 8, fft_weight=0.5, fft_unmask_weight=0.1), 1),
}


def _model(config: dict[str, Any], folder: Path, **options: Any) -> Any:
    config = {**config, **options}
    if config['type'] == 'TEC':
        torch.manual_seed(2)
        base = build(mae_config({**config['backbone'], 'type': 'SelfSupViT'}))
        base.init_weights()
        save_atomically({'state_dict': base.state_dict()}, folder / 'base.pth')
        config['base_checkpoint'] = str(folder / 'base.pth')
    torch.manual_seed(1)
    model = build(config)
    model.init_weights()
    return model.double().train()


def _stir(model: nn.Module) -> None:
    """Move what is trained, so that encoders, norms and tokens all differ from their start."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def _results(model: Any, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Losses, gradients, buffers and moving averages after a step, by name."""
    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    gradients = {f'gradient of {n}': p.grad for n, p in parameters.items() if p.grad is not None}
    buffers = {f'buffer {n}': b for n, b in model.named_buffers() if b.is_floating_point()}
    counts = {f'count {n}': b for n, b in model.named_buffers() if n.endswith('num_batches_tracked')}
    averages = {f'average {n}': p for n, p in parameters.items() if 'momentum_encoder' in n}
    return {**losses, **gradients, **buffers, **counts, **averages}


def _both(model: Any, views: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Results of a step of the model, and of the slow form on a copy of it that draws the same numbers."""
    twin, inputs, found = deepcopy(model), views[0] if len(views) == 1 else views, []
    for each, losses in ((model, model.loss), (twin, partial(reference.losses, twin))):
        torch.manual_seed(5)
        found.append(_results(each, losses(inputs)))
    return found[0], found[1]


def _assert_agree(ours: dict[str, torch.Tensor], slow: dict[str, torch.Tensor]) -> None:
    assert set(ours) == set(slow)
    largest = max(float(value.abs().max()) for key, value in slow.items() if key.startswith('gradient'))
    for key, value in slow.items():
        # some true gradients are zero, before a batch norm
        assert_close(ours[key], value, rtol=1e-9, atol=1e-11 * largest, name=key)


@pytest.mark.parametrize('name', CASES)
def test_a_step_is_that_of_the_slow_form(name: str, tmp_path: Path) -> None:
    config, count = CASES[name]
    model = _model(config(), tmp_path)
    _stir(model)
    _assert_agree(*_both(model, _views(count)))


def test_every_algorithm_has_a_slow_form() -> None:
    kinds = {kind for kind in vars(mmselfsup_graft.models).values() if isinstance(kind, type)}
    algorithms = {
        kind.__name__ for kind in kinds if issubclass(kind, SelfSupAlgorithm) and kind is not SelfSupAlgorithm
    }
    assert algorithms == {config()['type'] for config, _ in CASES.values()}


def test_a_later_step_finds_the_averages_of_the_slow_form(tmp_path: Path) -> None:
    model = _model(moco_config(_vit(stop_grad_patch_embed=True), base_momentum=0.9), tmp_path)
    for _ in range(2):
        _stir(model)
        ours, slow = _both(model, _views(2))
        _assert_agree(ours, slow)
        model.zero_grad()


def test_drop_path_drops_the_same_samples() -> None:
    """The last block drops whole samples, whichever tokens it computes."""
    torch.manual_seed(1)
    vit = build(_vit(drop_path_rate=0.5))
    vit.init_weights()
    vit.double().train()
    found = []
    for form in (vit.class_token, lambda x: vit.encode(x)[:, 0]):
        torch.manual_seed(2)
        found.append(form(_views(1)[0]))
    assert_close(*found, rtol=1e-12)


@pytest.mark.parametrize('name', ['MAE', 'MoCo v3, masked views', 'MoCo v3, both', 'TEC'])
def test_masks_are_refused_for_images_of_another_size(name: str, tmp_path: Path) -> None:
    """Patches of another grid would have other numbers."""
    config, count = CASES[name]
    model = _model(config(), tmp_path)
    views = _views(count - 1) + _views(1, 24)
    with pytest.raises(ConfigError, match='images of 24 x 24 for a model of 16 x 16; crop them to its size'):
        model.loss(views[0] if count == 1 else views)


@pytest.mark.parametrize('rate', ['drop_rate', 'attn_drop_rate', 'drop_path_rate'])
def test_a_block_drops_in_the_same_places(rate: str) -> None:
    """Asked for all tokens, a block draws what it draws in its usual form."""
    torch.manual_seed(1)
    block = EncoderBlock(16, 2, 32, **{rate: 0.5}).double().train()
    tokens, found = torch.randn(4, 5, 16, dtype=torch.float64), []
    for chosen in (slice(0, 5), None):
        torch.manual_seed(2)
        found.append(block(tokens, chosen))
    assert_close(*found, rtol=1e-11, atol=1e-13)
    assert not torch.equal(found[0], block.eval()(tokens))


# ---------------------------------------------------------------- views
def test_views_of_two_sizes_are_computed_one_by_one(tmp_path: Path) -> None:
    model = _model(moco_config(_vit(stop_grad_patch_embed=True)), tmp_path)
    _stir(model)
    _assert_agree(*_both(model, [_views(1, 16)[0], _views(1, 24)[0]]))


def test_norms_are_told_of_views_only_inside_a_step(tmp_path: Path) -> None:
    model = _model(_resnet_moco('BN'), tmp_path)
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    kinds = [type(norm) for norm in norms]
    _both(model, _views(2))
    assert len(norms) > 40
    assert {norm.views for norm in norms} == {1}
    assert [type(norm) for norm in norms] == kinds, 'classes stay as they were built'
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in model.backbone.modules() if hasattr(norm, 'running_mean'))


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_both_views_pass_at_once_if_all_norms_can_part_them(norm: str, tmp_path: Path) -> None:
    model = _model(_resnet_moco(norm), tmp_path)
    rows: list[int] = []
    for encoder in (model.backbone, model.momentum_encoder.backbone):
        encoder.register_forward_hook(lambda _, given, out: rows.append(len(given[0])))
    if norm == 'SyncBN':  # torch's own takes no tensors of the CPU in training
        model.eval()
    model.loss(_views(2))
    assert rows == ([2 * BATCH] * 2 if norm == 'BN' else [BATCH] * 4)


def test_multi_task_lets_the_shared_encoder_part_views(tmp_path: Path) -> None:
    parts = _resnet_moco('BN')
    backbone = parts.pop('backbone')
    objectives = {name: {'model': parts, 'views': [0, 1]} for name in ('a', 'b')}
    model = _model({'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}, tmp_path)
    rows: list[int] = []
    model.backbone.register_forward_hook(lambda _, given, out: rows.append(len(given[0])))
    model.loss(_views(2))
    assert rows == [2 * BATCH] * 2


def test_networks_are_built_with_norms_that_keep_views_apart() -> None:
    for norm, kind in (('BN', nn.BatchNorm2d), ('BN2d', nn.BatchNorm2d), ('PortableSyncBN', ViewNorm)):
        norms = [each for each in build(_resnet_moco(norm)['backbone']).modules() if hasattr(each, 'running_mean')]
        assert len(norms) > 15
        assert all(isinstance(each, ViewNorm) and isinstance(each, kind) for each in norms)


def test_evaluation_mode_is_the_same_in_both_forms(tmp_path: Path) -> None:
    model = _model(_resnet_moco('BN'), tmp_path)
    _stir(model)
    model.eval()
    with torch.no_grad():
        assert_close(model.loss(_views(2))['loss'], reference.losses(model, _views(2))['loss'], rtol=1e-12)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('norm', ['BN1d', 'PortableSyncBN'])
def test_norms_without_running_statistics_keep_views_apart_in_evaluation_too(norm: str, training: bool) -> None:
    model = build(_simclr(norm, track_running_stats=False)).double()
    model.load_state_dict(_filled(model.state_dict()))
    model.train(training)
    assert_close(model.loss(_views(2))['loss'], reference.losses(model, _views(2))['loss'], rtol=1e-12)


def _filled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {k: 0.3 * torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in state.items()}


# ---------------------------------------------------------------- fused attention of SimMIM's ViT
@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('bias', ['qv_bias', True, False])
def test_fused_attention_with_relative_positions(bias: Any, shared: bool) -> None:
    """What a GPU computes, on the CPU: outputs and gradients are those of mmpretrain's explicit form."""
    options = {'use_rel_pos_bias': not shared, 'use_shared_rel_pos_bias': shared, 'bias': bias}
    arch = vit_config(depth=1)['arch']
    model = build({'type': 'SelfSupBEiT', 'arch': arch, 'img_size': 16, 'patch_size': 4, **options}).double()
    model.init_weights()
    _stir(model)
    attention, tokens = model.layers[0].attn, torch.randn(2, 17, 16, dtype=torch.float64)
    given = model.rel_pos_bias() if shared else None
    weights = torch.randn(2, 17, 16, dtype=torch.float64)
    parameters = [*attention.parameters(), *(model.rel_pos_bias.parameters() if shared else [])]
    outputs = [attention.fused(tokens, given), attention(tokens, given)]
    assert_close(*outputs, rtol=1e-12)
    gradients = [torch.autograd.grad((each * weights).sum(), parameters, retain_graph=True) for each in outputs]
    for ours, theirs in zip(*gradients):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
