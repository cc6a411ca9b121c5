"""What a training step costs, counted: operations, calls of kernels, waits for the device, memory kept."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from helpers import (
    build,
    mae_config,
    mlp_config,
    moco_config,
    multi_task_config,
    tec_config,
    vit_config,
    write_base_model,
)
from mmengine.logging import MessageHub
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmselfsup_graft.analysis import HostReads


class Calls(TorchDispatchMode):
    """Count calls of aten operators that start a kernel: neither views nor mere allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # a "view" that torch's autograd makes for itself (_unsafe_view) has no alias in its schema
        starts_none = function.is_view or function.overloadpacket.__name__.startswith(('empty', 'new_empty', '_unsafe'))
        self.kernels += not starts_none
        return function(*args, **(kwargs or {}))


def _step(model: Any, views: int, size: int, batch: int = 2, dtype: torch.dtype | None = None) -> None:
    """Forward and backward pass; losses are summed."""
    device = next(model.parameters()).device
    channels = 3
    images = [torch.randn(batch, channels, size, size, device=device) for _ in range(views)]
    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model.loss(images[0] if views == 1 else images)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()


# ---------------------------------------------------------------- waits, in every algorithm
def _masked(kind: str, backbone: dict[str, Any], width: int, stride: int, **head: Any) -> dict[str, Any]:
    neck = {'type': 'PixelShuffleNeck', 'in_channels': width, 'stride': stride}
    head = head or {'type': 'SimMIMHead'}
    return {'type': kind, 'mask_patch': 8, 'backbone': backbone, 'neck': neck, 'head': head}


RESNET = {'depth': 18, 'stem_channels': 4, 'base_channels': 4}
VIT = {'img_size': 32, 'patch_size': 8, 'arch': vit_config(depth=2)['arch']}
A2MIM = {'type': 'A2MIMHead', 'mode': 'focal_l1', 'fft_weight': 0.5, 'fft_unmask_weight': 0.1}
RESNET_MOCO = {
    **moco_config({'arch': {'embed_dims': 32}}),
    'backbone': {'type': 'mmpretrain.ResNet_CIFAR', **RESNET},
    'neck': mlp_config(32, 32, 8, 2, with_avg_pool=True),
}
SWIN = {'arch': {'embed_dims': 8, 'depths': [1, 1], 'num_heads': [2, 2]}, 'out_indices': (1,)}
SIMCLR = {'type': 'JointEmbedding', 'backbone': vit_config(), 'neck': mlp_config(16, 32, 8, 2)}
# config, views, side of the images
ALGORITHMS: dict[str, tuple[Callable[[], dict[str, Any]], int, int]] = {
    'MAE': (mae_config, 1, 16),
    'MoCoV3': (moco_config, 2, 16),
    'MoCoV3, masked views, frozen patch embedding': (
        partial(moco_config, vit_config(stop_grad_patch_embed=True), view_mask_ratio=0.5),
        2,
        16,
    ),
    'MoCoV3 on a ResNet': (lambda: RESNET_MOCO, 2, 16),
    'SimCLR': (lambda: {**SIMCLR, 'head': {'type': 'NTXentHead'}}, 2, 16),
    'VICReg': (lambda: {**SIMCLR, 'head': {'type': 'VICRegHead'}}, 2, 16),
    'TEC': (tec_config, 1, 16),
    'MultiTask': (multi_task_config, 3, 16),
    'SimMIM on a BEiT': (lambda: _masked('SimMIM', {'type': 'MaskedBEiT', **VIT}, 16, 8), 1, 32),
    'SimMIM on a Swin': (
        lambda: _masked('SimMIM', {'type': 'MaskedSwin', **SWIN, 'img_size': 32, 'window_size': 4}, 16, 8),
        1,
        32,
    ),
    'A2MIM on a ResNet': (
        lambda: _masked('A2MIM', {'type': 'MaskedResNetCIFAR', **RESNET}, 32, 8, **A2MIM),
        1,
        32,
    ),
    'A2MIM on a BEiT': (
        lambda: _masked('A2MIM', {'type': 'MaskedBEiT', **VIT, 'mask_replace': False}, 16, 8, **A2MIM),
        1,
        32,
    ),
    **{name: (config, views, 16) for name, (config, views) in reference.cases().items()},
}


def _algorithm(name: str, folder: Path, **options: Any) -> Any:
    config = {**ALGORITHMS[name][0](), **options}
    if 'base_model' in config:
        config['base_checkpoint'] = write_base_model(config, folder / 'base.pth')
    model = build(config)
    model.init_weights()
    return model.train()


def test_a_read_in_a_step_would_be_found(tmp_path: Path) -> None:
    model = _algorithm('MAE', tmp_path)
    model.backbone.layers[0].register_forward_hook(lambda _, given, out: out * float(out.detach().amax()))
    with HostReads() as reads:
        _step(model, 1, 16)
    assert len(reads.found) == 1


@pytest.mark.parametrize('name', ALGORITHMS)
def test_no_step_waits_for_the_device(name: str, tmp_path: Path) -> None:
    model, views, size = _algorithm(name, tmp_path), *ALGORITHMS[name][1:]
    with HostReads() as reads:
        _step(model, views, size)
    assert not reads.found


@pytest.mark.parametrize('name', ALGORITHMS)
def test_losses_are_single_precision_under_autocast(name: str, tmp_path: Path) -> None:
    model, views, size = _algorithm(name, tmp_path), *ALGORITHMS[name][1:]
    _step(model, views, size, dtype=torch.bfloat16)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


# ---------------------------------------------------------------- operations, of the published sizes
def _flops(config: dict[str, Any], views: int, slow: bool, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of a forward and backward pass over two images at 224 px, on tensors without content."""
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())  # there is none for such tensors
    with torch.device('meta'):
        model = build(config).train()
        if slow:
            model.loss = partial(reference.losses, model)
        with FlopCounterMode(display=False) as counter:
            _step(model, views, 224)
    return counter.get_total_flops()


def _base(**options: Any) -> dict[str, Any]:
    return vit_config(768, 12, 12, 224, 16, **options)


def test_masked_auto_encoder_saves_two_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    config = mae_config(_base(), decoder_width=512, decoder_depth=8, decoder_heads=16)
    fast, slow = (_flops(config, 1, form, monkeypatch) for form in (False, True))
    assert fast <= 0.98 * slow


def test_contrastive_transformer_saves_almost_seven_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = _base(init='mocov3', stop_grad_patch_embed=True)
    config = moco_config(backbone, hidden=4096, out=256)
    fast, slow = (_flops(config, 2, form, monkeypatch) for form in (False, True))
    assert fast <= 0.932 * slow


# ---------------------------------------------------------------- calls and memory, beside mmpretrain
VIT_S = {'embed_dims': 384, 'num_layers': 12, 'num_heads': 6, 'feedforward_channels': 1536}


def _contrastive_pair(side: int, hidden: int, out: int) -> tuple[Any, Any]:
    """MoCo v3 of this toolbox and of mmpretrain: ViT-S with 12 heads."""
    MessageHub.get_current_instance().update_info('max_iters', 100)
    mlp = {**mlp_config(384, hidden, out, 3), 'norm_cfg': {'type': 'BN1d'}}
    predictor = {**mlp, 'in_channels': out, 'num_layers': 2}
    shared = {'img_size': side, 'patch_size': 16}
    theirs = {
        '_scope_': 'mmpretrain',
        'type': 'MoCoV3',
        'backbone': {'type': 'MoCoV3ViT', 'arch': 'mocov3-small', 'stop_grad_conv1': True, **shared},
        'neck': mlp,
        'head': {
            'type': 'MoCoV3Head',
            'predictor': predictor,
            'loss': {'type': 'CrossEntropyLoss', 'loss_weight': 0.4},
            'temperature': 0.2,
        },
    }
    ours = {
        'type': 'MoCoV3',
        'backbone': {'type': 'SelfSupViT', 'arch': 'mocov3-small', 'stop_grad_patch_embed': True, **shared},
        'neck': {**mlp, 'norm_cfg': {'type': 'PortableSyncBN'}},
        'head': {'type': 'ContrastiveHead', 'predictor': {**predictor, 'norm_cfg': {'type': 'PortableSyncBN'}}},
    }
    return build(ours).train(), build(theirs).train()


def _masked_pair() -> tuple[Any, Any]:
    """MAE of this toolbox and of mmpretrain: ViT-S, published decoder, 224 px."""
    decoder = {'type': 'MAEPretrainDecoder', 'patch_size': 16, 'in_chans': 3, 'embed_dim': 384, 'mlp_ratio': 4.0}
    decoder.update(decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16)
    loss = {'type': 'PixelReconstructionLoss', 'criterion': 'L2'}
    theirs = {
        '_scope_': 'mmpretrain',
        'type': 'MAE',
        'backbone': {'type': 'MAEViT', 'arch': VIT_S, 'patch_size': 16, 'mask_ratio': 0.75},
        'neck': decoder,
        'head': {'type': 'MAEPretrainHead', 'norm_pix': True, 'patch_size': 16, 'loss': loss},
    }
    vit = {'type': 'SelfSupViT', 'arch': VIT_S, 'img_size': 224, 'patch_size': 16}
    ours = mae_config(vit, decoder_width=512, decoder_depth=8, decoder_heads=16)
    return build(ours).train(), build(theirs).train()


def test_contrastive_step_makes_half_of_the_calls_of_mmpretrain() -> None:
    """The number of calls depends on no size, so images are small."""
    counts = []
    for model in _contrastive_pair(32, 64, 32):
        images = [torch.randn(4, 3, 32, 32) for _ in range(2)]
        with Calls() as calls:
            sum(model.loss(images, []).values()).backward()
        counts.append(calls.kernels)
    assert counts[0] <= 0.5 * counts[1], counts


def _kept_for_backward(model: Any, views: int) -> int:
    """Bytes that a forward pass over two images of 224 px keeps for the backward pass, parameters aside."""
    images = [torch.randn(2, 3, 224, 224) for _ in range(views)]
    known = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model.loss(images[0] if views == 1 else images, [])
    assert any(loss.requires_grad for loss in losses.values())
    return sum(kept.values())


@pytest.mark.parametrize(
    ('pair', 'views'), [(partial(_contrastive_pair, 224, 4096, 256), 2), (_masked_pair, 1)], ids=['MoCo v3', 'MAE']
)
def test_a_step_keeps_no_more_memory_than_that_of_mmpretrain(pair: Callable[[], tuple[Any, Any]], views: int) -> None:
    """Activations only; the step benchmark measures the peak of a whole step, gradients and optimizer included."""
    ours, theirs = (_kept_for_backward(model, views) for model in pair())
    assert theirs / 2 < ours <= theirs
