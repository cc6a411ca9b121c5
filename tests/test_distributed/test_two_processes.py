"""Two processes with half of the batch each give loss and gradients of one process on the joined batch.

All cases run in one pair of gloo processes, since starting them takes most of the time. The mean of a loss over the
ranks is compared, and the gradients that DistributedDataParallel averages; with the gathers being differentiable, that
is right for losses that each rank evaluates on the whole batch (VICReg's variance and covariance), too: every rank's
backward pass adds the gradients of all ranks' copies, and the average divides by their number again.
"""

import inspect
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import reference.swav
import torch
import torch.distributed as dist
from helpers import (
    assert_close,
    build,
    mae_config,
    mlp_config,
    moco_config,
    multi_task_config,
    run_ranks,
    tec_config,
    vit_config,
    write_base_model,
)
from mmengine.dataset import default_collate
from reference import masked_tec
from test_datasets.test_fast.images import COLORS, CROP, FLIP, dataset, write_photos
from torch import nn

from mmselfsup_graft.analysis import measure_conflict
from mmselfsup_graft.datasets import SeededSampler
from mmselfsup_graft.models.masking import block_mask_from_noise
from mmselfsup_graft.utils.shared_random import shared_generator

WORLD, BATCH = 2, 8
Result = dict[str, Any]


# ---------------------------------------------------------------- run on every rank, and once in one process
def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _share(tensor: torch.Tensor, sizes: tuple[int, ...] | None = None) -> torch.Tensor:
    """This rank's rows of a joined batch; the whole batch in one process."""
    if not dist.is_initialized():
        return tensor
    world = dist.get_world_size()
    return tensor.split(list(sizes) if sizes else len(tensor) // world)[dist.get_rank()].clone()


def _backward(model: nn.Module, *inputs: Any, **kwargs: Any) -> Result:
    """Loss, averaged gradients and state after one pass, through DistributedDataParallel where there are ranks."""
    wrapped = nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
    loss = wrapped(*inputs, **kwargs)
    if isinstance(loss, dict):  # TEC's has two parts
        loss = loss['loss'] if 'loss' in loss else sum(loss.values())
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {'loss': loss.detach(), 'grads': gradients, 'state': model.state_dict()}


RESNET = {'depth': 18, 'stem_channels': 4, 'base_channels': 4, 'zero_init_residual': False}
RESNET['norm_cfg'] = {'type': 'PortableSyncBN'}


def moco_resnet_config() -> dict[str, Any]:
    """A MoCo v3 on a ResNet for small images."""
    config = moco_config({'arch': {'embed_dims': 32}})
    config['neck'] = mlp_config(32, 32, 8, 2, with_avg_pool=True)
    return {**config, 'backbone': {'type': 'mmpretrain.ResNet_CIFAR', **RESNET}}


def byol_config() -> dict[str, Any]:
    """A BYOL on the ViT of MoCo v3."""
    config = moco_config(vit_config())
    return {**config, 'type': 'BYOL', 'head': config['head']['predictor']}


def moco(config: dict[str, Any] | None = None, **options: Any) -> Result:
    """MoCo v3 on a ViT, or as configured; the encoders differ, so the moving average matters."""
    torch.manual_seed(1)
    model = build(config or moco_config(vit_config(), **options)).double()
    model.init_weights()
    model.double().train()
    with torch.no_grad():
        for parameter in model.momentum_encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=_seeded(), dtype=torch.float64))
    generator = _seeded()
    views = [torch.randn(BATCH, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2)]
    noise = [torch.rand(BATCH, 16, generator=generator) for _ in range(2)]
    if 'noise' in inspect.signature(model.loss).parameters:
        model.loss = partial(model.loss, noise=[_share(n) for n in noise])
    return _backward(model, [_share(view) for view in views], mode='loss')


def moco_with_queue(norm: str = 'BN', **options: Any) -> Result:
    """MoCo v2 on a ResNet with a permutation drawn by all; one process makes two groups where the ranks have none."""
    shared_generator().manual_seed(4)
    groups = 1 if dist.is_initialized() or norm != 'BN' else WORLD
    parts = {'type': 'mmpretrain.ResNet_CIFAR', **RESNET, 'norm_cfg': {'type': norm}}
    neck = {'type': 'mmpretrain.MoCoV2Neck', 'hid_channels': 32, 'out_channels': 8}
    result = moco(dict(type='MoCo', queue_size=24, backbone=parts, neck=neck, bn_groups=groups, **options))
    # running statistics are those of a rank, or of one group after the other
    kept = {k: v for k, v in result['state'].items() if norm != 'BN' or ('.bn' not in k and 'downsample.1' not in k)}
    return {**result, 'state': kept}


def moco_with_queue_on_a_vit() -> Result:
    """MoCo v2 on a ViT: the joined batch."""
    neck = {'type': 'mmpretrain.MoCoV2Neck', 'hid_channels': 16, 'out_channels': 8, 'with_avg_pool': False}
    return moco(dict(type='MoCo', queue_size=24, backbone=vit_config(), neck=neck))


def mae() -> Result:
    """MAE with given masks."""
    torch.manual_seed(1)
    model = build(mae_config(vit_config()))
    model.init_weights()
    model.double().train()
    images = torch.randn(BATCH, 3, 16, 16, generator=_seeded(), dtype=torch.float64)
    model.loss = partial(model.loss, noise=_share(torch.rand(BATCH, 16, generator=_seeded())))
    return _backward(model, _share(images), mode='loss')


def tec(make_config: Callable[[], dict[str, Any]] = tec_config, grid: tuple[int, ...] = (16,)) -> Result:
    """TEC with given masks; both targets, dropped paths nowhere."""
    torch.manual_seed(1)
    config = make_config()
    with tempfile.TemporaryDirectory() as folder:
        model = build({**config, 'base_checkpoint': write_base_model(config, Path(folder) / 'base.pth')})
        model.init_weights()
    model.double().train()
    images = torch.randn(BATCH, 3, 16, 16, generator=_seeded(), dtype=torch.float64)
    model.loss = partial(model.loss, noise=_share(torch.rand(BATCH, *grid, generator=_seeded())))
    return _backward(model, _share(images), mode='loss')


def simmim(kind: str = 'SimMIM', head: dict[str, Any] | None = None, **token: Any) -> Result:
    """SimMIM or A2MIM on a ResNet with given masks, equally many blocks on each rank."""
    backbone = {'type': 'MaskedResNetCIFAR', **RESNET, **token}
    config = {'type': kind, 'backbone': backbone, 'head': head or {'type': 'SimMIMHead'}}
    torch.manual_seed(1)
    model = build({**config, 'neck': {'type': 'PixelShuffleNeck', 'in_channels': 32, 'stride': 8}})
    model.init_weights()
    model.double().train()
    images = torch.randn(BATCH, 3, 16, 16, generator=_seeded(), dtype=torch.float64)
    mask = block_mask_from_noise(torch.rand(BATCH, 4, 4, generator=_seeded()), 0.6)
    model.loss = partial(model.loss, mask=_share(mask))
    return _backward(model, _share(images), mode='loss')


class _Normalized(nn.Module):
    """Batch norm with a loss that tells its entries apart, the mean over this rank's samples."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        self.output = self.norm(x)
        return (self.gain * self.output * weights).sum() / len(x)


def batch_norm(shape: tuple[int, ...], sizes: tuple[int, ...] | None = None, **options: Any) -> Result:
    """PortableSyncBN alone, two steps; in one process torch's own batch norm."""
    from mmselfsup_graft.models import PortableSyncBN

    kind = PortableSyncBN if dist.is_initialized() else {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    model = _Normalized(kind(shape[1], **options)).double()
    if model.norm.affine:
        with torch.no_grad():
            model.norm.weight.copy_(torch.arange(shape[1]) + 1)
    generator = _seeded()
    for _ in range(2):
        # far from zero mean and unit variance, and different from rank to rank
        joined = 3 + torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)) * torch.randn(shape, generator=generator)
        x = _share(joined.double(), sizes).requires_grad_()
        weights = _share(torch.randn(shape, generator=generator).double(), sizes)
        model.zero_grad()
        result = _backward(model, x, weights)
    return {**result, 'output': model.output.detach(), 'input_grad': x.grad}


class _TwoViews(nn.Module):
    """Two views through one batch norm: interleaved over processes, one after the other in one process."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, first: torch.Tensor, second: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        from mmselfsup_graft.models.joint_views import JointViews

        outputs = JointViews(self.norm)(self.norm, [first, second])
        return ((outputs[0] * weights).sum() + (outputs[1] * weights.square()).sum()) / len(first)


def views_of_one_norm() -> Result:
    """Both views in one pass of PortableSyncBN, and how many collectives that takes; reference is torch's norm."""
    from mmselfsup_graft.models import PortableSyncBN
    from mmselfsup_graft.models.necks import sync_bn

    model = _TwoViews((PortableSyncBN if dist.is_initialized() else nn.BatchNorm2d)(4)).double()
    generator = _seeded()
    scale = 1 + torch.arange(BATCH, dtype=torch.float64).view(-1, 1, 1, 1)
    inputs = [scale * torch.randn(BATCH, 4, 3, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    with mock.patch.object(sync_bn, 'all_gather', wraps=sync_bn.all_gather) as gather:
        result = _backward(model, *map(_share, inputs))
    return {**result, 'collectives': torch.tensor(gather.call_count)}


class _Features(nn.Module):
    """Two views through one linear layer, then a loss."""

    def __init__(self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.linear = nn.Linear(6, 5).double()
        self.loss = loss

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.loss(self.linear(first), self.linear(second))


def features(name: str, **options: Any) -> Result:
    """One of the loss functions."""
    from mmselfsup_graft.models import losses

    generator = _seeded()
    views = [torch.randn(BATCH, 6, generator=generator, dtype=torch.float64) for _ in range(2)]
    return _backward(_Features(partial(getattr(losses, name), **options)), *map(_share, views))


def lone_samples() -> Result:
    """One sample per rank: the joined batch has two, so batch norm is defined."""
    return batch_norm((2, 3))


def multi_task() -> Result:
    """MAE and MoCo v3 on one encoder; views and noise are this rank's rows."""
    torch.manual_seed(1)
    model = build(multi_task_config())
    model.init_weights()
    model.double().train()
    generator = _seeded()
    views = [torch.randn(BATCH, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(3)]
    mim = model.objectives['mim']
    mim.loss = partial(mim.loss, noise=_share(torch.rand(BATCH, 16, generator=generator)))
    rows = measure_conflict(model, [_share(view) for view in views])
    result = _backward(_Summed(model), [_share(view) for view in views])
    return {**result, 'cosines': torch.tensor([row.cosine for row in rows])}


class _Summed(nn.Module):
    """Sum of a model's losses, for :func:`_backward`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(self.model.loss(views).values())).sum()


def joint_embedding() -> Result:
    """SimCLR's loss behind a projector with batch norm."""
    torch.manual_seed(1)
    neck, head = mlp_config(16, 32, 8, 2), dict(type='NTXentHead', temperature=0.3)
    model = build(dict(type='JointEmbedding', backbone=vit_config(), neck=neck, head=head))
    model.init_weights()
    generator = _seeded()
    views = [torch.randn(BATCH, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2)]
    return _backward(model.double().train(), [_share(view) for view in views], mode='loss')


def swav() -> Result:
    """SwAV with crops of two sizes and a queue that the first of two passes has filled."""
    torch.manual_seed(1)
    model = build(reference.swav.resnet(queue_length=BATCH + 3))
    model.init_weights()
    model.double().train()
    generator = _seeded()
    for _ in range(2):
        sizes = (16, 16, 8, 8)
        views = [torch.randn(BATCH, 3, size, size, generator=generator, dtype=torch.float64) for size in sizes]
        model.zero_grad()
        result = _backward(model, [_share(view) for view in views], mode='loss')
    return result


def fast_data(mode: str) -> Result:
    """MAE on crops that are made of photographs by a compiled pipeline: this rank's part of the sampler's order."""
    torch.manual_seed(1)
    model = build(mae_config(vit_config()))
    model.init_weights()
    model.double().train()
    with tempfile.TemporaryDirectory() as folder:
        data = dataset(write_photos(Path(folder), BATCH), FAST, mode)
        sampler = SeededSampler(data, seed=2)
        sampler.set_epoch(3)
        batch = default_collate(data.__getitems__(list(sampler)))
    images = model.data_preprocessor(batch)['inputs'].double()
    noise = torch.rand(BATCH, 16, generator=_seeded())
    model.loss = partial(model.loss, noise=noise[list(sampler)])
    return _backward(model, images, mode='loss')


FAST = [
    {'type': 'LoadImage'},
    {**CROP, 'size': 16},
    *COLORS,
    FLIP,
    {'type': 'mmpretrain.PackInputs'},
]
# not the focal one, which looks at the mean image of a rank's own share
FOURIER = {'type': 'A2MIMHead', 'mode': 'focal_l1', 'fft_weight': 0.5, 'fft_focal': False}
CASES: dict[str, Callable[[], Result]] = {
    'moco': moco,
    'moco with masked views': partial(moco, view_mask_ratio=0.5),
    'moco with frozen layers': partial(moco, frozen_layers=2),
    'moco on a ResNet': lambda: moco(moco_resnet_config()),
    'moco with a frozen patch embedding': lambda: moco(moco_config(vit_config(stop_grad_patch_embed=True))),
    'byol': lambda: moco(byol_config()),
    'moco with a queue': moco_with_queue,
    'moco with a queue, frozen layers': partial(moco_with_queue, frozen_layers=3),
    'moco with a queue and joined norms': partial(moco_with_queue, 'PortableSyncBN'),
    'moco with a queue on a ViT': moco_with_queue_on_a_vit,
    'mae': mae,
    'tec': tec,
    'tec on a ResNet': lambda: tec(partial(masked_tec.config, masked_tec.resnet(**RESNET)), (2, 2)),
    'fast data, all in the worker': partial(fast_data, 'cpu'),
    'fast data, colors on the device': partial(fast_data, 'device'),
    'multi-task': multi_task,
    'joint embedding': joint_embedding,
    'swav': swav,
    'simmim on a ResNet': simmim,
    'a2mim on a ResNet': partial(simmim, 'A2MIM', FOURIER, mask_layer=2, mask_replace=False, mask_gain=0.1),
    'batch norm': partial(batch_norm, (BATCH, 4)),
    'batch norm without affine': partial(batch_norm, (BATCH, 4), affine=False),
    'batch norm, cumulative average': partial(batch_norm, (BATCH, 4), momentum=None),
    'batch norm of maps': partial(batch_norm, (BATCH, 4, 3, 2)),
    'two views of one norm': views_of_one_norm,
    'info_nce': partial(features, 'info_nce', temperature=0.3),
    'nt_xent': partial(features, 'nt_xent', temperature=0.3),
    'vicreg': partial(features, 'vicreg'),
    'vicreg, variance only': partial(features, 'vicreg', weights=(0.0, 1.0, 0.0)),
    'vicreg, covariance only': partial(features, 'vicreg', weights=(0.0, 0.0, 1.0)),
}
UNEVEN = (3, 5)
# their denominator has a constant of 1e-5 beside the number of masked pixels
LOOSE = {'simmim on a ResNet': 1e-7, 'a2mim on a ResNet': 1e-7}


def all_cases(rank: int) -> dict[str, Result]:
    """Everything, on this rank."""
    results = {name: case() for name, case in CASES.items()}
    results['uneven'] = batch_norm((sum(UNEVEN), 4), UNEVEN)
    results['lone samples'] = lone_samples()
    return results


# ---------------------------------------------------------------- tests
@pytest.fixture(scope='module')
def ranks() -> list[dict[str, Result]]:
    """Results of both processes."""
    return run_ranks(all_cases, WORLD)


@pytest.mark.parametrize('name', CASES)
def test_loss_gradients_and_state(ranks: list[dict[str, Result]], name: str) -> None:
    joined, shares = CASES[name](), [rank[name] for rank in ranks]
    exact = LOOSE.get(name, 1e-10)
    assert_close(sum(s['loss'] for s in shares) / WORLD, joined['loss'], rtol=exact, name='mean of the losses')
    assert joined['grads']
    noise = exact * max(float(g.abs().max()) for g in joined['grads'].values())  # some true gradients are zero
    for rank, share in enumerate(shares):
        assert set(share['grads']) == set(joined['grads'])
        for key, gradient in joined['grads'].items():
            assert_close(share['grads'][key], gradient, rtol=1e-9, atol=noise, name=f'gradient of {key}, rank {rank}')
        for key, value in joined['state'].items():
            assert_close(share['state'][key], value, rtol=1e-10, atol=1e-13, name=f'{key}, rank {rank}')


def test_two_views_take_one_collective(ranks: list[dict[str, Result]]) -> None:
    assert [int(rank['two views of one norm']['collectives']) for rank in ranks] == [1, 1]


def test_conflict_is_that_of_the_joined_batch(ranks: list[dict[str, Result]]) -> None:
    joined = CASES['multi-task']()['cosines']
    for rank in ranks:
        assert_close(rank['multi-task']['cosines'], joined, rtol=0, atol=1e-8)


def test_local_terms_differ_between_ranks(ranks: list[dict[str, Result]]) -> None:
    """The comparison above means something only if the ranks saw different data; replicated terms are equal."""
    for name in (
        'moco',
        'moco with a queue',
        'mae',
        'tec',
        'simmim on a ResNet',
        'a2mim on a ResNet',
        'multi-task',
        'joint embedding',
        'swav',
        'info_nce',
        'nt_xent',
        'vicreg',
    ):
        first, second = (rank[name]['loss'] for rank in ranks)
        assert abs(first - second) > 1e-4, name
    for name in ('vicreg, variance only', 'vicreg, covariance only'):
        first, second = (rank[name]['loss'] for rank in ranks)
        assert_close(first, second, rtol=1e-13, name=name)


@pytest.mark.parametrize('name', [n for n in CASES if n.startswith('batch norm')])
def test_batch_norm_outputs_and_input_gradients(ranks: list[dict[str, Result]], name: str) -> None:
    joined = CASES[name]()
    outputs = torch.cat([rank[name]['output'] for rank in ranks])
    assert_close(outputs, joined['output'], rtol=1e-12, name='outputs')
    # each rank divides by its own number of samples, so the sum of the ranks' losses is WORLD times the joined loss
    gradients = torch.cat([rank[name]['input_grad'] for rank in ranks]) / WORLD
    assert_close(gradients, joined['input_grad'], rtol=1e-9, name='input gradients')


def test_batch_norm_with_uneven_shares(ranks: list[dict[str, Result]]) -> None:
    joined = batch_norm((sum(UNEVEN), 4))
    assert_close(torch.cat([rank['uneven']['output'] for rank in ranks]), joined['output'], rtol=1e-12)
    for rank in ranks:
        for key, value in joined['state'].items():
            assert_close(rank['uneven']['state'][key], value, rtol=1e-12, name=key)


def test_batch_norm_with_one_sample_per_process(ranks: list[dict[str, Result]]) -> None:
    joined = lone_samples()
    assert_close(torch.cat([rank['lone samples']['output'] for rank in ranks]), joined['output'], rtol=1e-10)
