"""One training step of MoCo v3 against the authors' numbers: forward, loss, gradients, moving average, masked views."""

from typing import Any

import pytest
import torch
from golden_sets import golden, some, starting
from helpers import assert_close, block_class_tokens, moco_from_golden, tensor

from mmselfsup_graft.checkpoints import MOCOV3_MODEL
from mmselfsup_graft.models.algorithms.two_views import project_views
from mmselfsup_graft.models.losses import info_nce

pytestmark = pytest.mark.usefixtures('both_forms')
HIDDEN = 0.75  # share of the patches in masked views: a constant of the published option, in no file


@pytest.fixture(scope='module')
def step() -> dict[str, Any]:
    """Inputs and expected numbers of the step."""
    return golden('moco_step.npz')


@pytest.fixture(scope='module')
def stepped(both_forms: None, step: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    """A double-precision model after one forward and backward pass, and its loss."""
    model = moco_from_golden()
    loss = model.loss(_views(step))['loss']
    loss.backward()
    return model, loss


def _views(step: dict[str, Any], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [tensor(step['x1'], dtype), tensor(step['x2'], dtype)]


def test_loss_in_double_precision(step: dict[str, Any], stepped: tuple[Any, torch.Tensor]) -> None:
    assert_close(stepped[1], step['loss_float64'], name='loss')


def test_loss_in_single_precision(step: dict[str, Any]) -> None:
    loss = moco_from_golden(torch.float32).loss(_views(step, torch.float32))['loss']
    assert loss.dtype == torch.float32
    assert_close(loss, step['loss_float32'], rtol=1e-4, name='loss')


@torch.no_grad()
def test_features_and_block_class_tokens(step: dict[str, Any]) -> None:
    model = moco_from_golden()
    for view in ('x1', 'x2'):
        assert_close(model.backbone(tensor(step[view]))[-1], step[f'feature_{view}'], name=f'feature_{view}')
    assert_close(block_class_tokens(model.backbone, tensor(step['x1'])), step['block_cls_x1'], name='block_cls_x1')


@torch.no_grad()
def test_queries_keys_and_the_two_terms(step: dict[str, Any]) -> None:
    model = moco_from_golden()
    views = _views(step)
    queries = [model.head.predict(p) for p in project_views(model.backbone, model.neck, views)]
    keys = model.keys(views)
    for number in (1, 2):
        assert_close(queries[number - 1], step[f'q{number}'], name=f'q{number}')
        assert_close(keys[number - 1], step[f'k{number}'], name=f'k{number}')
    temperature = float(step['temperature'])
    assert_close(info_nce(queries[0], keys[1], temperature), step['loss_q1_k2'], name='loss_q1_k2')
    assert_close(info_nce(queries[1], keys[0], temperature), step['loss_q2_k1'], name='loss_q2_k1')


def test_running_statistics_after_the_step(step: dict[str, Any], stepped: tuple[Any, torch.Tensor]) -> None:
    buffers = dict(stepped[0].named_buffers())
    expected = some(starting(step, 'after.'))
    moving = {name for name in buffers if name.endswith(('running_mean', 'running_var'))}
    assert {MOCOV3_MODEL.to_canonical(name) for name in expected} == moving
    for name, value in expected.items():
        # the mean of a batch-normalized input is zero up to rounding
        assert_close(buffers[MOCOV3_MODEL.to_canonical(name)], value, atol=1e-13, name=name)


def test_gradients(stepped: tuple[Any, torch.Tensor]) -> None:
    parameters = dict(stepped[0].named_parameters())
    for name, expected in some(golden('moco_grads.npz')).items():
        assert_close(parameters[MOCOV3_MODEL.to_canonical(name)].grad, expected, name=name)


def test_gradients_in_single_precision(step: dict[str, Any]) -> None:
    model = moco_from_golden(torch.float32)
    model.loss(_views(step, torch.float32))['loss'].backward()
    parameters = dict(model.named_parameters())
    for name, expected in some(golden('moco_grads.npz')).items():
        assert_close(parameters[MOCOV3_MODEL.to_canonical(name)].grad, expected, rtol=1e-4, name=name)


def test_gradient_norms_of_all_parameters(stepped: tuple[Any, torch.Tensor]) -> None:
    parameters = dict(stepped[0].named_parameters())
    expected = {MOCOV3_MODEL.to_canonical(k): v for k, v in some(golden('moco_grad_norms.json')).items()}
    assert set(expected) == set(parameters)
    noise = 1e-12 * max(norm for norm in expected.values() if norm)  # some true gradients are zero before a batch norm
    for name, norm in expected.items():
        gradient = parameters[name].grad
        if norm is None:
            assert gradient is None, f'{name} must have no gradient'
        else:
            assert gradient is not None, f'{name} has no gradient'
            assert_close(gradient.norm(), norm, atol=noise, name=name)


def test_moving_average(stepped: tuple[Any, torch.Tensor]) -> None:
    parameters = dict(stepped[0].named_parameters())
    for name, expected in some(golden('moco_ema_after.npz')).items():
        assert_close(parameters[MOCOV3_MODEL.to_canonical(name)], expected, name=name)


def test_moving_average_of_all_parameters(stepped: tuple[Any, torch.Tensor]) -> None:
    parameters = {k: v for k, v in stepped[0].named_parameters() if k.startswith('momentum_encoder.')}
    expected = {MOCOV3_MODEL.to_canonical(k): v for k, v in golden('moco_ema_after_norms.json').items()}
    assert set(expected) == set(parameters)
    for name, numbers in expected.items():
        size = parameters[name].abs().sum().item()  # a sum may cancel: its error is relative to the sum of sizes
        assert_close(parameters[name].sum(), numbers['sum'], rtol=0, atol=1e-8 * size, name=f'sum of {name}')
        assert_close(parameters[name].norm(), numbers['l2'], name=f'norm of {name}')


def test_masked_views(step: dict[str, Any]) -> None:
    masked = golden('moco_masked_views.npz')
    model = moco_from_golden(view_mask_ratio=HIDDEN)
    noise = [tensor(masked['noise1']), tensor(masked['noise2'])]
    loss = model.loss(_views(step), noise=noise)['loss']
    assert_close(loss, masked['loss_float64'], name='loss with masked views')
    assert loss.item() != pytest.approx(float(step['loss_float64']), rel=1e-6), 'masking must change the loss'
