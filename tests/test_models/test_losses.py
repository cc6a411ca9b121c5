"""Losses against slow, loop-written references, and under autocast."""

import math

import pytest
import torch
from helpers import assert_close

from mmselfsup_graft.models.losses import info_nce, l1_weight_distance, nt_xent, vicreg


def _pair(batch: int = 5, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, width, dtype=torch.float64), torch.randn(batch, width, dtype=torch.float64)


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a @ b / a.norm() / b.norm()).item()


def test_info_nce() -> None:
    queries, keys = _pair()
    tau, total = 0.3, 0.0
    for i in range(5):
        scores = [math.exp(_cosine(queries[i], key) / tau) for key in keys]
        total -= math.log(scores[i] / sum(scores))
    assert_close(info_nce(queries, keys, tau), 2 * tau * total / 5, rtol=1e-12)


def test_info_nce_has_gradients_through_queries_only() -> None:
    queries, keys = (t.requires_grad_() for t in _pair())
    info_nce(queries, keys, 0.2).backward()
    assert queries.grad.abs().sum() > 0
    assert keys.grad is None
    assert_close((queries.grad * queries).sum(1), torch.zeros(5), atol=1e-12, name='length of a query is irrelevant')


def test_nt_xent() -> None:
    first, second = _pair()
    tau, total = 0.5, 0.0
    samples = [*first, *second]
    for i, sample in enumerate(samples):
        scores = {j: math.exp(_cosine(sample, other) / tau) for j, other in enumerate(samples) if j != i}
        total -= math.log(scores[(i + 5) % 10] / sum(scores.values()))
    assert_close(nt_xent(first, second, tau), total / 10, rtol=1e-12)


@pytest.mark.parametrize('weights', [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 3.0)])
def test_vicreg(weights: tuple[float, float, float]) -> None:
    first, second = (view / 2 for view in _pair())
    invariance = sum(((first - second) ** 2).flatten().tolist()) / first.numel()
    variance = covariance = 0.0
    for view in (first, second):
        columns = [column - column.mean() for column in view.t()]
        for i, a in enumerate(columns):
            variance += max(0.0, 1 - math.sqrt((a @ a).item() / 4 + 1e-4)) / 4 / 2
            covariance += sum((a @ b).item() ** 2 / 16 for j, b in enumerate(columns) if j != i) / 4
    assert variance > 0, 'the hinge must be active'
    expected = weights[0] * invariance + weights[1] * variance + weights[2] * covariance
    assert_close(vicreg(first, second, weights), expected, rtol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['info_nce', 'nt_xent', 'vicreg'])
def test_losses_stay_in_single_precision_under_autocast(name: str, dtype: torch.dtype) -> None:
    first, second = (view.to(dtype) for view in _pair(6, 8))
    function = {
        'info_nce': lambda a, b: info_nce(a, b, 0.2),
        'nt_xent': lambda a, b: nt_xent(a, b, 0.2),
        'vicreg': vicreg,
    }[name]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = function(first, second)
    assert loss.dtype == torch.float32
    assert_close(loss, function(first.double(), second.double()), rtol=1e-5)


def test_l1_weight_distance() -> None:
    now = [torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]
    then = [torch.tensor([0.5, 2.0]), torch.tensor([[3.0]])]
    assert l1_weight_distance(zip(now, then)).item() == 4.5
    half = [value.to(torch.bfloat16) for value in now]
    assert l1_weight_distance(zip(half, then)).dtype == torch.float32
