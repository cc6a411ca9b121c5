"""Few-shot logistic regression on frozen features."""

from dataclasses import dataclass

import numpy as np

from mmselfsup_graft.errors import ConfigError, DataError

from .logistic import MAX_ITERATIONS, TOLERANCE, FeatureSet, centre_and_normalise, check_solver, fit_logistic


@dataclass(frozen=True)
class FewShotProtocol:
    """Logistic regression on n labels per class (Layer Grafted Pre-training's 1 % protocol, drawn anew several times).

    Attributes:
        shots: Labels per class.
        draws: Random draws of the labelled images per number of shots; the same draws for every row of a table.
        inverse_regularisation: scikit-learn's C; 4000 equals the official ``lambda = 0.00025 / n``. No intercept.
        tol: See :class:`LogisticProtocol`.
        max_iter: Limit of the solver.
        seed: Of the draws.

    Raises:
        ConfigError: If a value is outside its range.
    """

    shots: tuple[int, ...] = (1, 2, 5, 10)
    draws: int = 10
    inverse_regularisation: float = 4000.0
    tol: float = TOLERANCE
    max_iter: int = MAX_ITERATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1 or self.draws < 1:
            raise ConfigError(
                f'evaluation.few_shot: shots={list(self.shots)} and draws={self.draws} must be at least 1, and there '
                'must be some'
            )
        check_solver('few_shot', self.inverse_regularisation, self.tol, self.max_iter)


def draw_shots(labels: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``shots`` samples of every class.

    Raises:
        DataError: If a class has fewer samples.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise DataError(f'class {label} has {len(members)} training images, fewer than the {shots} shots asked for')
        chosen.append(rng.choice(members, shots, replace=False))
    return np.concatenate(chosen)


def few_shot_accuracies(train: FeatureSet, test: FeatureSet, protocol: FewShotProtocol) -> dict[int, dict]:
    """Accuracy per number of shots.

    Args:
        train: Features [N, D] and labels [N] to draw from.
        test: Features [M, D] and labels [M] to score on.
        protocol: See :class:`FewShotProtocol`.

    Returns:
        For each number of shots ``mean`` and ``std`` (over draws, in per cent), ``accuracies`` and ``converged``.
        Numbers of shots beyond the smallest class are left out.

    Raises:
        DataError: If the smallest class has too few training images for any of them.
    """
    train_x, test_x = centre_and_normalise(train[0]), centre_and_normalise(test[0])
    strength = 1 / protocol.inverse_regularisation
    results = {}
    smallest = int(np.unique(train[1], return_counts=True)[1].min())
    if smallest < min(protocol.shots):
        raise DataError(f'the smallest class has {smallest} training images; few-shot needs {min(protocol.shots)}')
    for shots in (n for n in protocol.shots if n <= smallest):
        accuracies, unfinished = [], 0
        for draw in range(protocol.draws):
            chosen = draw_shots(train[1], shots, np.random.default_rng((protocol.seed, shots, draw)))
            fit = fit_logistic(train_x[chosen], train[1][chosen], strength, protocol.tol, protocol.max_iter)
            unfinished += not fit.converged
            accuracies.append(fit.accuracy(test_x, test[1]))
        results[shots] = {
            'mean': float(np.mean(accuracies)),
            'std': float(np.std(accuracies)),
            'accuracies': accuracies,
            'converged': protocol.draws - unfinished,
        }
    return results
