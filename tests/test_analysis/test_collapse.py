"""Collapse indicators on features whose values are known."""

import math

import pytest
import torch

from mmselfsup_graft.analysis import effective_rank, feature_std, mean_cosine


def test_collapsed_features() -> None:
    same = torch.tensor([[3.0, 4.0, 0.0]]).repeat(5, 1)
    assert feature_std(same) == pytest.approx(0, abs=1e-6)
    assert effective_rank(same) == 1.0
    assert mean_cosine(same) == pytest.approx(1, abs=1e-6)


def test_spread_features() -> None:
    features = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert feature_std(features) == pytest.approx(1, abs=0.02)
    assert effective_rank(features) == pytest.approx(64, rel=0.02)
    assert mean_cosine(features) == pytest.approx(0, abs=0.01)


def test_against_the_definitions() -> None:
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)) + 0.3
    normed = features / features.norm(dim=1, keepdim=True)
    pairs = [float(normed[i] @ normed[j]) for i in range(7) for j in range(7) if i != j]
    assert mean_cosine(features) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    spreads = [math.sqrt(sum((x - column.mean()) ** 2 for x in column) / 6) for column in normed.T]
    assert feature_std(features) == pytest.approx(sum(spreads) / 5 * math.sqrt(5), rel=1e-5)
    centered = features - features.mean(dim=0)
    values = torch.linalg.eigvalsh(centered @ centered.T).clamp_min(0).sqrt()
    shares = [float(v / values.sum()) for v in values]
    entropy = -sum(s * math.log(s) for s in shares if s > 1e-9)
    assert effective_rank(features) == pytest.approx(math.exp(entropy), rel=1e-3)


def test_half_a_collapse_lies_between() -> None:
    line = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0, 2.0, -1.0]])
    assert effective_rank(line) == pytest.approx(1, abs=1e-2)
    assert -0.1 < mean_cosine(line) < 0.1


def test_features_that_are_not_finite_stop_nothing() -> None:
    broken = torch.ones(4, 3)
    broken[1, 1] = float('nan')
    assert all(math.isnan(indicator(broken)) for indicator in (effective_rank, feature_std, mean_cosine))
