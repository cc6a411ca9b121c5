"""The 1 % protocol: preprocessing, objective, optimum and accuracy."""

from typing import Any

import numpy as np
import pytest
from helpers import assert_close, golden

from mmselfsup_graft.evaluation import LogisticProtocol, centre_and_normalise, fit_logistic, logistic_accuracy
from mmselfsup_graft.evaluation.logistic import logistic_objective


@pytest.fixture(scope='module')
def case() -> dict[str, Any]:
    """Features, labels and what the official function and an independent minimiser made of them."""
    return golden('logistic_regression.npz')


def test_preprocessing(case: dict[str, Any]) -> None:
    before = case['train_features'].copy()
    assert_close(centre_and_normalise(case['train_features']), case['train_preprocessed'], rtol=1e-6)
    assert_close(centre_and_normalise(before.astype(np.float64)), case['train_preprocessed'], rtol=1e-6)
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


def test_accuracy_with_the_default_solver(case: dict[str, Any]) -> None:
    train, test = (case['train_features'], case['train_labels']), (case['val_features'], case['val_labels'])
    copies = [each.copy() for each in (*train, *test)]
    protocol = LogisticProtocol()
    assert protocol.regularisation == float(case['lambd'])
    result = logistic_accuracy(train, test, protocol)
    assert result['converged']
    assert result['images'] == len(train[1])
    assert result['accuracy'] == pytest.approx(100 * float(case['val_accuracy_optimum']), abs=1e-9)
    assert result['accuracy'] == pytest.approx(100 * float(case['val_accuracy_official']), abs=1e-9)
    assert_close(result['objective'], case['objective_optimum'], rtol=1e-7, name='objective')
    assert result['objective'] <= float(case['objective_official'])
    assert all(np.array_equal(a, b) for a, b in zip((*train, *test), copies))
