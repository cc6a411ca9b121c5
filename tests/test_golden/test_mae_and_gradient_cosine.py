"""MAE's loss, and how its gradients stand to those of the contrastive loss, per layer of a shared encoder.

Every batch starts from the stored weights: base encoder for both losses, the momentum encoder of its own file, which
is averaged once before the keys are computed.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import golden, some
from helpers import (
    assert_close,
    build,
    load_moco,
    mae_from_golden,
    moco_from_golden,
    multi_task_config,
    tensor,
    vit_config,
)

from mmselfsup_graft.analysis import conflict_of_losses, layer_groups
from mmselfsup_graft.models import MAE, MultiTask

pytestmark = pytest.mark.usefixtures('both_forms')
INPUTS, VIEWS, EXPECTED = 'gradient_cosine_inputs.npz', 'gradient_cosine_views.npz', 'gradient_cosine.npz'


def _group_of(name: str, model: Any) -> str:
    """The file's group of an encoder parameter, by the toolbox's layer ids."""
    layer = model.depth.layer_id(name)
    if layer == 0:
        return 'embed'
    return 'norm' if layer == model.depth.num_blocks + 1 else f'blocks.{layer - 1}'


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Flattened gradient of the loss for every group of encoder parameters, and for all of them."""
    trained = {n: p for n, p in model.backbone.named_parameters() if p.requires_grad}
    pieces: dict[str, list[torch.Tensor]] = {}
    for name, gradient in zip(trained, torch.autograd.grad(loss, list(trained.values()))):
        for group in (_group_of(name, model), 'all'):
            pieces.setdefault(group, []).append(gradient.flatten())
    return {group: torch.cat(parts) for group, parts in pieces.items()}


def _mim(model: MAE, batch: int) -> torch.Tensor:
    inputs = golden(INPUTS)
    return model.loss(tensor(inputs['image'][batch]), noise=tensor(inputs['mask_noise'][batch]))['loss']


def _contrastive(model: Any, batch: int) -> torch.Tensor:
    views = golden(VIEWS)
    load_moco(model)
    return model.loss([tensor(views['view1'][batch]), tensor(views['view2'][batch])])['loss']


def test_masked_image_loss_and_gradient_norms() -> None:
    expected, model = golden(EXPECTED), mae_from_golden()
    for batch, value in enumerate(some(expected['mim_loss'], 'batches')):
        loss = _mim(model, batch)
        assert_close(loss, value, name=f'loss of batch {batch}')
        gradients = _gradients(model, loss)
        assert set(gradients) == set(expected['groups'].tolist())
        for group, norm in zip(expected['groups'], expected['mim_grad_norm'][batch]):
            assert_close(gradients[group].norm(), norm, name=f'{group}, batch {batch}')


def test_masked_image_loss_in_single_precision() -> None:
    expected, inputs = golden(EXPECTED), golden(INPUTS)
    model = mae_from_golden(torch.float32)
    images, noise = tensor(inputs['image'], torch.float32), tensor(inputs['mask_noise'], torch.float32)
    for batch, value in enumerate(some(expected['mim_loss'], 'batches')):
        assert_close(model.loss(images[batch], noise=noise[batch])['loss'], value, rtol=1e-4, name=f'batch {batch}')


def test_contrastive_loss_and_gradient_norms() -> None:
    expected, model = golden(EXPECTED), moco_from_golden()
    for batch, value in enumerate(some(expected['cl_loss'], 'batches')):
        loss = _contrastive(model, batch)
        assert_close(loss, value, name=f'loss of batch {batch}')
        gradients = _gradients(model, loss)
        for group, norm in zip(expected['groups'], expected['cl_grad_norm'][batch]):
            assert_close(gradients[group].norm(), norm, name=f'{group}, batch {batch}')


def test_cosine_between_the_two_gradients() -> None:
    expected = golden(EXPECTED)
    mae, moco = mae_from_golden(), moco_from_golden()
    for batch, cosines in enumerate(some(expected['cosine'], 'batches')):
        of_mim = _gradients(mae, _mim(mae, batch))
        of_contrast = _gradients(moco, _contrastive(moco, batch))
        ours = [torch.cosine_similarity(of_mim[g], of_contrast[g], dim=0).item() for g in expected['groups']]
        assert_close(np.array(ours), cosines, rtol=0, atol=1e-8, name=f'batch {batch}')


def _multi_task() -> MultiTask:
    """Both objectives on one encoder; sizes and options of the file's models."""
    mae, moco = mae_from_golden(), moco_from_golden()
    backbone = vit_config(
        moco.backbone.embed_dims,
        moco.depth.num_blocks,
        moco.backbone.layers[0].attn.num_heads,
        *(golden(VIEWS)['view1'].shape[-1], mae.head.patch_size),
        feedforward=moco.backbone.layers[0].ffn.layers[0][0].out_features,
        in_channels=mae.head.in_channels,
    )
    model = build(multi_task_config(backbone)).double()
    model.backbone.load_state_dict(moco.backbone.state_dict())
    for name, alone in (('mim', mae), ('cl', moco)):
        model.objectives[name] = model._sharing(alone)
    return model.train()


def test_the_conflict_analysis_gives_these_numbers() -> None:
    """The same through a multi-task model: one encoder, both losses, cosine and norms of every group."""
    expected, inputs, views = golden(EXPECTED), golden(INPUTS), golden(VIEWS)
    for batch, noise in enumerate(some(inputs['mask_noise'], 'batches')):
        model = _multi_task()  # every batch starts from the stored momentum encoder
        model.objectives['mim'].loss = partial(model.objectives['mim'].loss, noise=tensor(noise))
        images = [tensor(each[batch]) for each in (views['view1'], views['view2'], inputs['image'])]
        rows = conflict_of_losses(model.objective_losses(images), layer_groups(model.backbone))
        assert [row.group for row in rows] == expected['groups'].tolist()
        for name, found in (('cosine', 'cosine'), ('mim_grad_norm', 'norm_first'), ('cl_grad_norm', 'norm_second')):
            ours = np.array([getattr(row, found) for row in rows])
            assert_close(ours, expected[name][batch], rtol=1e-8, atol=1e-9, name=f'{name}, batch {batch}')
