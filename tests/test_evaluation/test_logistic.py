"""Multinomial logistic regression: two classes, options, and what cannot be fitted."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.evaluation import LogisticProtocol, center_and_normalize, fit_logistic, logistic_accuracy


def data(classes: int, count: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.normal(size=(classes, 5))[labels] + rng.normal(size=(count, 5)), labels * 10 + 3


def minimum(features: np.ndarray, columns: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
    """The objective written once more and minimized by another program."""
    classes = columns.max() + 1

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, classes)
        logits = features @ weights
        norm = logsumexp(logits, axis=1, keepdims=True)
        error = np.exp(logits - norm) - np.eye(classes)[columns]
        loss = np.mean(norm[:, 0] - logits[np.arange(len(columns)), columns])
        n = len(columns)
        value = loss + strength / (2 * n) * (weights**2).sum()
        return value, (features.T @ error / n + strength / n * weights).ravel()

    start = np.zeros(features.shape[1] * classes)
    found = minimize(objective, start, jac=True, method='BFGS', options={'gtol': 1e-9, 'maxiter': 5000})
    return found.fun, found.x.reshape(-1, classes)


@pytest.mark.parametrize('classes', [2, 3, 5])
@pytest.mark.parametrize('strength', [0.00025, 0.5])
def test_the_multinomial_optimum_is_reached(classes, strength):
    features, labels = data(classes)
    rows = center_and_normalize(features)
    fit = fit_logistic(rows, labels, strength, tol=1e-10, max_iter=5000)
    value, weights = minimum(rows, (labels - 3) // 10, strength)
    assert fit.converged
    assert fit.weights.shape == (5, classes)
    assert fit.classes.tolist() == [3 + 10 * c for c in range(classes)]
    assert fit.objective == pytest.approx(value, rel=1e-9)
    if strength > 0.1:  # with hardly any penalty the minimum is too flat for a comparison of weights
        np.testing.assert_allclose(fit.weights, weights, atol=1e-5)


def test_normalizing_can_be_left_out():
    train, test = data(3), data(3, seed=1)
    plain = fit_logistic(train[0], train[1], 0.1, 1e-8)
    result = logistic_accuracy(train, test, LogisticProtocol(regularisation=0.1, normalise=False, tol=1e-8))
    assert result['objective'] == pytest.approx(plain.objective, rel=1e-12)
    assert result['accuracy'] == plain.accuracy(*test)
    other = logistic_accuracy(train, test, LogisticProtocol(regularisation=0.1, tol=1e-8))
    assert abs(other['objective'] - result['objective']) > 1e-3


def test_an_unfinished_solver_says_so():
    train = data(3)
    result = logistic_accuracy(train, train, LogisticProtocol(max_iter=2))
    assert result['converged'] is False
    assert result['iterations'] == 2


def test_one_class_is_refused():
    with pytest.raises(DataError, match='at least two classes, got 1'):
        logistic_accuracy((np.ones((3, 2)), np.zeros(3, int)), (np.ones((3, 2)), np.zeros(3, int)), LogisticProtocol())
