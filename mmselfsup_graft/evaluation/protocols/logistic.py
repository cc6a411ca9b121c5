"""Multinomial logistic regression on frozen features: the 1 % protocol."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmselfsup_graft.errors import ConfigError, DataError

FeatureSet = tuple[np.ndarray, np.ndarray]

# with scikit-learn's default 1e-4 the objective can end up to 25 % above its minimum, depending on the features
TOLERANCE = 1e-6
MAX_ITERATIONS = 5000


@dataclass(frozen=True)
class LogisticProtocol:
    """Logistic regression without intercept on all of ``evaluation.train``, usually the 1 % list.

    Layer Grafted Pre-training (arXiv 2302.14138), 1 % few-shot. Minimizes, over the n training images,
    ``mean cross entropy + regularization / (2 n) |W|^2``. The release solves it with cyanure; the optimum is the same.

    Attributes:
        regularisation: The official ``lambda`` before it is divided by n; scikit-learn's ``C`` is its inverse.
        normalise: Center each row and divide it by its L2 norm first.
        tol: Largest entry of the gradient at which the solver stops.
        max_iter: Most iterations of the solver.

    Raises:
        ConfigError: If a value is not positive.
    """

    regularisation: float = 0.00025
    normalise: bool = True
    tol: float = TOLERANCE
    max_iter: int = MAX_ITERATIONS

    def __post_init__(self) -> None:
        check_solver('logistic', self.regularisation, self.tol, self.max_iter)


def check_solver(protocol: str, regularization: float, tol: float, max_iter: int) -> None:
    """Raise an error for settings that the solver cannot use.

    Raises:
        ConfigError: If one of them is not positive.
    """
    for name, value in (('regularisation', regularization), ('tol', tol), ('max_iter', max_iter)):
        if not value > 0:
            raise ConfigError(f'evaluation.{protocol}.{name} must be positive, got {value!r}')


@dataclass(frozen=True)
class LogisticFit:
    """A fitted model and the solver's status.

    Attributes:
        weights: [D, C] float64.
        classes: [C] labels of the columns.
        objective: Value of the protocol's objective at ``weights``.
        iterations: Of the solver.
        converged: Whether it stopped by ``tol`` and not by ``max_iter``.
    """

    weights: np.ndarray
    classes: np.ndarray
    objective: float
    iterations: int
    converged: bool

    def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Accuracy in per cent on features [M, D] and labels [M]."""
        predicted = self.classes[(features @ self.weights).argmax(axis=1)]
        return 100.0 * float(np.mean(predicted == labels))


def center_and_normalize(features: np.ndarray) -> np.ndarray:
    """Subtract from each row its own mean and divide by its L2 norm; features [N, D], in float64."""
    features = features.astype(np.float64)
    features = features - features.mean(axis=1, keepdims=True)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    regularization: float,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITERATIONS,
) -> LogisticFit:
    """Minimize ``mean cross entropy + regularization / (2 n) |W|^2`` with scikit-learn's L-BFGS.

    Args:
        features: [N, D], used as they are.
        labels: [N], of two classes at least.
        regularization: See :class:`LogisticProtocol`.
        tol: See there.
        max_iter: See there.

    Raises:
        DataError: If there is one class only.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(f'logistic regression needs images of at least two classes, got {len(classes)}')
    # for two classes scikit-learn fits one vector w; the multinomial optimum is W = (-w/2, w/2) with |W|^2 = |w|^2 / 2
    strength = (2.0 if len(classes) == 2 else 1.0) / regularization
    model = LogisticRegression(C=strength, fit_intercept=False, tol=tol, max_iter=max_iter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', ConvergenceWarning)
        model.fit(features, labels)
    weights = model.coef_.T.astype(np.float64)  # [D, C], or [D, 1] for two classes
    weights = np.hstack([-weights / 2, weights / 2]) if len(classes) == 2 else weights
    objective = logistic_objective(weights, features, np.searchsorted(classes, labels), regularization)
    unfinished = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return LogisticFit(weights, classes, objective, int(np.max(model.n_iter_)), not unfinished)


def logistic_objective(weights: np.ndarray, features: np.ndarray, labels: np.ndarray, regularization: float) -> float:
    """Value of ``mean cross entropy + regularization / (2 n) |W|^2``.

    Args:
        weights: [D, C].
        features: [N, D].
        labels: [N] columns of ``weights``.
        regularization: See :class:`LogisticProtocol`.
    """
    logits = features @ weights  # [N, C]
    logits = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean() + regularization / (2 * len(labels)) * np.square(weights).sum())


def logistic_accuracy(train: FeatureSet, test: FeatureSet, protocol: LogisticProtocol) -> dict[str, Any]:
    """Fit on all training features, score on the test features; the arguments are not changed.

    Args:
        train: Features [N, D] and labels [N].
        test: Features [M, D] and labels [M].
        protocol: See :class:`LogisticProtocol`.

    Returns:
        ``accuracy`` (per cent), ``converged``, ``iterations``, ``objective`` and ``images`` trained on.
    """
    prepare = center_and_normalize if protocol.normalise else np.asarray
    fit = fit_logistic(prepare(train[0]), train[1], protocol.regularisation, protocol.tol, protocol.max_iter)
    return {
        'accuracy': fit.accuracy(prepare(test[0]), test[1]),
        'converged': fit.converged,
        'iterations': fit.iterations,
        'objective': fit.objective,
        'images': len(train[1]),
    }
