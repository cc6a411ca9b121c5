"""Model selection: on the test set, as in the papers, or on a held-out part of the training set."""

import numpy as np

from mmselfsup_graft.datasets.subset import held_out
from mmselfsup_graft.errors import ConfigError

SELECTIONS = {
    'first': 'nothing is selected: the first setting counts',
    'test': 'the best on the evaluation set itself (the protocol of the papers)',
    'holdout': 'the best on a held-out part of the training set; the evaluation set is scored once',
}


def check_selection(protocol: str, selection: str, share: float, allowed: tuple[str, ...]) -> None:
    """Raise an error for an unknown selection or a share outside (0, 1).

    Raises:
        ConfigError: If either is wrong.
    """
    if selection not in allowed:
        raise ConfigError(f'evaluation.{protocol}.selection is {selection!r}; choose from {", ".join(allowed)}')
    if not 0.0 < share < 1.0:
        raise ConfigError(f'evaluation.{protocol}.holdout_share is {share}; it must be between 0 and 1')


def split_holdout(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split samples into kept and held out, with the same share of every class.

    Args:
        labels: [N].
        share: Part of each class to hold out, rounded, at least one image; a class with a single image keeps it.
        seed: Of the choice.

    Returns:
        Sorted indices of the kept samples and of the held-out ones.

    Raises:
        DataError: If every class has a single image.
    """
    held = held_out(labels.tolist(), share, seed)
    return np.flatnonzero(~held), np.flatnonzero(held)
