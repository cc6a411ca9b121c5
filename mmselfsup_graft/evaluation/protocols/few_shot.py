"""Few-shot logistic regression on frozen features."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from mmselfsup_graft.errors import ConfigError, DataError

from .batched_logistic import fit_logistic_batch
from .logistic import MAX_ITERATIONS, TOLERANCE, FeatureSet, center_and_normalize, check_solver

_NUMBERS = 2**25  # float64 numbers in memory at a time; more draws are solved in parts
_SMALL = 2**22  # features of all draws together


@dataclass(frozen=True)
class FewShotProtocol:
    """Logistic regression on n labels per class (Layer Grafted Pre-training's 1 % protocol, with several draws).

    Attributes:
        shots: Labels per class.
        draws: Random draws of the labeled images per number of shots, solved together; the same for every row of a
            table.
        inverse_regularisation: scikit-learn's C; 4000 equals the official ``lambda = 0.00025 / n``. No intercept.
        tol: Largest norm of a column of the gradient at which the solver stops, see :func:`fit_logistic_batch`.
        max_iter: Most iterations of the solver.
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
                f'evaluation.few_shot: shots={list(self.shots)} and draws={self.draws} must be at least 1, and shots '
                'must not be empty'
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
            raise DataError(f'class {label} has {len(members)} training images, fewer than {shots} shots')
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
        Numbers of shots above the size of the smallest class are left out.

    Raises:
        DataError: If the smallest class has too few training images for all of them.
    """
    train_x, test_x = center_and_normalize(train[0]), center_and_normalize(test[0])
    classes, columns = np.unique(train[1], return_inverse=True)
    truth = np.where(np.isin(test[1], classes), np.searchsorted(classes, test[1]), -1)
    smallest = int(np.bincount(columns).min())
    if len(classes) < 2:
        raise DataError(f'logistic regression needs images of at least two classes, got {len(classes)}')
    if smallest < min(protocol.shots):
        raise DataError(f'the smallest class has {smallest} training images; few-shot needs {min(protocol.shots)}')
    results = {}
    for shots in (n for n in protocol.shots if n <= smallest):
        generators = [np.random.default_rng((protocol.seed, shots, draw)) for draw in range(protocol.draws)]
        chosen = np.stack([draw_shots(train[1], shots, each) for each in generators])  # [draws, n]
        with _few_threads(chosen.size * train_x.shape[1]):
            accuracies, converged = _score_draws((train_x, columns), (test_x, truth), chosen, protocol)
        results[shots] = {
            'mean': float(np.mean(accuracies)),
            'std': float(np.std(accuracies)),
            'accuracies': accuracies,
            'converged': sum(converged),
        }
    return results


def _score_draws(
    train: FeatureSet, test: FeatureSet, chosen: np.ndarray, protocol: FewShotProtocol
) -> tuple[list[float], list[bool]]:
    """Accuracy in per cent of each draw, and whether it converged.

    Args:
        train: Prepared features [N, D] and their classes [N], 0 ... C - 1.
        test: Prepared features [M, D] and their classes [M]; -1 is one that has no training image.
        chosen: [draws, n] samples of ``train``.
        protocol: See there.
    """
    count, width, classes = chosen.shape[1], train[0].shape[1], int(train[1].max()) + 1
    numbers = 3 * count * width + 6 * count * classes + 30 * min(count, width) * classes  # memory of a draw
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    unseen, truth = (torch.from_numpy(each).to(device) for each in test)
    accuracies: list[float] = []
    converged: list[bool] = []
    for part in np.array_split(chosen, min(len(chosen), -(-len(chosen) * numbers // _NUMBERS))):
        x, y = (torch.from_numpy(each[part]).to(device) for each in train)
        strength = 1 / protocol.inverse_regularisation
        fits = fit_logistic_batch(x, y, classes, strength, protocol.tol, protocol.max_iter)
        right = [((unseen @ each).argmax(1) == truth).sum() for each in fits.weights]
        accuracies += [100.0 * int(each) / len(truth) for each in right]
        converged += fits.converged.tolist()
    return accuracies, converged


@contextmanager
def _few_threads(numbers: int) -> Iterator[None]:
    """Use one thread for small arrays: several threads mostly wait, up to a hundred times as long on a busy machine."""
    threads = torch.get_num_threads()
    if numbers < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
