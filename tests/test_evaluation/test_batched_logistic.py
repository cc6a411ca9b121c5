"""Logistic regressions solved side by side, each against scikit-learn run to a very tight tolerance."""

import numpy as np
import pytest
import torch

from mmselfsup_graft.evaluation import FewShotProtocol, center_and_normalize, few_shot_accuracies
from mmselfsup_graft.evaluation.protocols import few_shot
from mmselfsup_graft.evaluation.protocols.batched_logistic import fit_logistic_batch
from mmselfsup_graft.evaluation.protocols.few_shot import draw_shots
from mmselfsup_graft.evaluation.protocols.logistic import fit_logistic

STRENGTH = 0.00025


def problems(count: int, samples: int, width: int, classes: int, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Features [count, samples, width] whose channels shrink by ``decay`` in all, and labels [count, samples]."""
    rng = np.random.default_rng(samples + width)
    labels = np.stack([rng.permutation(np.arange(samples) % classes) for _ in range(count)])
    mixed = (rng.normal(size=(classes, width)) + 1)[labels] + rng.normal(size=(count, samples, width))
    return np.stack([center_and_normalize(each * np.geomspace(1, decay, width)) for each in mixed]), labels


def solve(features, labels, classes, strength=STRENGTH, tol=1e-9, max_iter=2000):
    return fit_logistic_batch(torch.from_numpy(features), torch.from_numpy(labels), classes, strength, tol, max_iter)


@pytest.mark.parametrize(
    ('samples', 'width', 'classes', 'decay', 'strength'),
    [
        (10, 64, 10, 1.0, STRENGTH),  # one label per class, easy
        (20, 64, 10, 1e-3, STRENGTH),
        (40, 16, 4, 1e-2, STRENGTH),  # more samples than channels
        (12, 30, 2, 1e-1, STRENGTH),  # two classes, for which scikit-learn fits one vector
        (30, 20, 3, 1e-2, 1.0),
    ],
)
def test_the_optimum_of_scikit_learn(samples, width, classes, decay, strength):
    features, labels = problems(4, samples, width, classes, decay)
    fits = solve(features, labels, classes, strength)
    assert fits.converged.all()
    unseen = np.random.default_rng(5).normal(size=(200, width))
    for number in range(4):
        exact = fit_logistic(features[number], labels[number], strength, tol=1e-10, max_iter=100_000)
        weights = fits.weights[number].numpy()
        assert fits.objective[number].item() == pytest.approx(exact.objective, rel=1e-6)
        np.testing.assert_allclose(weights, exact.weights, atol=2e-4 * np.abs(exact.weights).max())
        np.testing.assert_array_equal((unseen @ weights).argmax(1), (unseen @ exact.weights).argmax(1))


def test_the_gradient_is_as_small_as_it_says():
    """Written out for one sample after the other, in the channels of the features."""
    features, labels = problems(3, 20, 32, 5, 1e-2)
    for tol in (1e-4, 1e-7):
        fits = solve(features, labels, 5, tol=tol)
        for x, y, weights in zip(features, labels, fits.weights.numpy(), strict=True):
            gradient = STRENGTH / 20 * weights
            for row, label in zip(x, y, strict=True):
                chances = np.exp(row @ weights) / np.exp(row @ weights).sum()
                gradient = gradient + np.outer(row, chances - np.eye(5)[label]) / 20
            assert np.abs(gradient).max() <= np.linalg.norm(gradient, axis=0).max() <= 1.001 * tol


def test_a_problem_does_not_depend_on_its_neighbors():
    easy, labels = problems(2, 20, 32, 5, 1.0)
    hard, _ = problems(2, 20, 32, 5, 1e-4)
    features = np.stack([easy[0], hard[0], easy[1]])
    together = solve(features, labels[[0, 0, 1]], 5)
    assert together.converged.all()
    assert len(set(together.iterations.tolist())) > 1
    for number in range(3):
        alone = solve(features[number : number + 1], labels[[0, 0, 1]][number : number + 1], 5)
        assert alone.iterations[0] == together.iterations[number]
        torch.testing.assert_close(together.weights[number], alone.weights[0], rtol=1e-6, atol=1e-6)


def test_repeated_and_empty_rows():
    features, labels = problems(1, 12, 16, 3, 1.0)
    features[0, 1], features[0, 2] = features[0, 0], 0.0
    fits = solve(features, labels, 3)
    exact = fit_logistic(features[0], labels[0], STRENGTH, tol=1e-10, max_iter=100_000)
    assert fits.converged.all()
    assert fits.objective.item() == pytest.approx(exact.objective, rel=1e-6)


def test_an_unfinished_problem_says_so():
    features, labels = problems(3, 20, 32, 5, 1e-2)
    fits = solve(features, labels, 5, max_iter=3)
    assert not fits.converged.any()
    assert fits.iterations.tolist() == [3, 3, 3]
    beyond_rounding = solve(features, labels, 5, tol=1e-30, max_iter=400)
    assert not beyond_rounding.converged.any()
    torch.testing.assert_close(beyond_rounding.objective, solve(features, labels, 5).objective, rtol=1e-9, atol=0.0)


def test_few_shot_accuracies_equal_fits_one_by_one(monkeypatch):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 12))
    names = np.array([3, 5, 6, 9])  # labels need not count from 0
    sides = []
    for count in (60, 200):
        columns = rng.integers(0, 4, count)
        sides.append((centers[columns] + 1.5 * rng.normal(size=(count, 12)), names[columns]))
    (x, y), (unseen, truth) = sides
    protocol = FewShotProtocol(shots=(1, 4), draws=6, seed=2, tol=1e-9)
    result = few_shot_accuracies((x, y), (unseen, truth), protocol)
    for shots in protocol.shots:
        chosen = [draw_shots(y, shots, np.random.default_rng((2, shots, draw))) for draw in range(6)]
        fits = [fit_logistic(center_and_normalize(x)[each], y[each], STRENGTH, tol=1e-10) for each in chosen]
        expected = [fit.accuracy(center_and_normalize(unseen), truth) for fit in fits]
        assert result[shots]['accuracies'] == pytest.approx(expected, abs=1e-9)
        assert result[shots]['converged'] == 6
    monkeypatch.setattr(few_shot, '_NUMBERS', 1)  # every draw in a part of its own
    assert few_shot_accuracies((x, y), (unseen, truth), protocol) == result
