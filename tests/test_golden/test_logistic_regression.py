"""The 1 % protocol: preprocessing, objective, optimum and accuracy."""

from typing import Any

import numpy as np
import pytest
from golden_sets import golden
from helpers import assert_close

from mmselfsup_graft.evaluation import LogisticProtocol, center_and_normalize, fit_logistic, logistic_accuracy
from mmselfsup_graft.evaluation.protocols.logistic import logistic_objective


@pytest.fixture(scope='module')
def case() -> dict[str, Any]:
    """Features, labels and what the official function and an independent minimizer made of them."""
    return golden('logistic_regression.npz')


def test_preprocessing(case: dict[str, Any]) -> None:
    before = case['train_features'].copy()
    assert_close(center_and_normalize(case['train_features']), case['train_preprocessed'], rtol=1e-6)
    assert_close(center_and_normalize(before.astype(np.float64)), case['train_preprocessed'], rtol=1e-6)
    assert np.array_equal(case['train_features'], before)


def test_objective_of_the_recorded_weights(case: dict[str, Any]) -> None:
    value = logistic_objective(
        case['weights_optimum'], case['train_preprocessed'], case['train_labels'], float(case['lambd'])
    )
    assert_close(value, case['objective_optimum'], rtol=1e-12)
    assert_close(case['lambda_over_n'], case['lambd'] / len(case['train_labels']), rtol=1e-12)


def test_optimum(case: dict[str, Any]) -> None:
    fit = fit_logistic(case['train_preprocessed'], case['train_labels'], float(case['lambd']), tol=1e-10)
    assert fit.converged
    assert_close(fit.objective, case['objective_optimum'], rtol=1e-10, name='objective')
    # the softmax does not see a vector added to all columns; the penalty makes their sum zero
    assert_close(fit.weights, case['weights_optimum'], rtol=1e-4, name='weights')


def undecided(case: dict[str, Any], gap: float) -> float:
    """Per cent of the validation images whose class may differ in a solution whose objective is ``gap`` too large.

    The penalty makes the objective strongly convex with ``lambda / n``, so the weights of such a solution are at most
    ``sqrt(2 gap n / lambda)`` away, and the difference of two logits moves by ``sqrt(2)`` times that and the feature's
    norm at most.
    """
    features = center_and_normalize(case['val_features'])
    first, second = np.sort(features @ case['weights_optimum'], axis=1)[:, :-3:-1].T
    away = np.sqrt(2 * max(gap, 0.0) / float(case['lambda_over_n']))
    return 100 * float(np.mean(first - second <= np.sqrt(2) * away * np.linalg.norm(features, axis=1)))


def test_accuracy_with_the_default_solver(case: dict[str, Any]) -> None:
    train, test = (case['train_features'], case['train_labels']), (case['val_features'], case['val_labels'])
    copies = [each.copy() for each in (*train, *test)]
    result = logistic_accuracy(train, test, LogisticProtocol(regularisation=float(case['lambd'])))
    assert result['converged']
    assert result['images'] == len(train[1]) > 0
    optimum = float(case['objective_optimum'])
    gap, official = (value - optimum for value in (result['objective'], float(case['objective_official'])))
    assert gap <= official + 1e-12 * optimum, 'not closer to the optimum than the published solver'
    accuracy = 100 * float(case['val_accuracy_optimum'])
    assert result['accuracy'] == pytest.approx(accuracy, abs=undecided(case, gap) + 1e-9)
    assert all(np.array_equal(a, b) for a, b in zip((*train, *test), copies))
