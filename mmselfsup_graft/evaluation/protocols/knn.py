"""Weighted k-nearest-neighbor classification of frozen features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmselfsup_graft.errors import ConfigError

from .logistic import FeatureSet
from .selection import SELECTIONS, check_selection, split_holdout


@dataclass(frozen=True)
class KNNProtocol:
    """k-NN by cosine similarity, votes weighted by ``exp(similarity / temperature)`` (Wu et al., arXiv 1805.01978).

    All pairs of ``k`` and ``temperature`` come from one pass over the similarities.

    Attributes:
        k: Numbers of neighbors; each is cut to the number of training images.
        temperature: Of the votes.
        chunk: Test images whose similarities are in memory at a time.
        selection: The reported pair: ``first``, or the best on ``test`` or on a ``holdout`` of the training set.
        holdout_share: Part of every class that is held out.
        seed: Of the held-out part.

    Raises:
        ConfigError: If a value is outside its range.
    """

    k: tuple[int, ...] = (20,)
    temperature: tuple[float, ...] = (0.07,)
    chunk: int = 1024
    selection: str = 'first'
    holdout_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('k', 'temperature'):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not values or min(values) <= 0:
                raise ConfigError(f'evaluation.knn.{name} must be a list of positive numbers, got {values!r}')
        if self.chunk < 1:
            raise ConfigError(f'evaluation.knn.chunk must be at least 1, got {self.chunk}')
        check_selection('knn', self.selection, self.holdout_share, ('first', 'test', 'holdout'))


@torch.no_grad()
def knn_grid(train: FeatureSet, test: FeatureSet, protocol: KNNProtocol) -> dict[tuple[int, float], float]:
    """Accuracy in per cent of every pair (k, temperature), on the GPU if there is one.

    Args:
        train: Features [N, D] and labels [N].
        test: Features [M, D] and labels [M].
        protocol: See :class:`KNNProtocol`.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    classes, columns = np.unique(train[1], return_inverse=True)
    owner = torch.from_numpy(columns).to(device)  # [N] class of each training image
    keys = F.normalize(torch.from_numpy(train[0]).to(device), dim=1)  # [N, D]
    truth = torch.from_numpy(np.where(np.isin(test[1], classes), np.searchsorted(classes, test[1]), -1))
    most = min(max(protocol.k), len(keys))
    right = {(k, t): 0 for k in protocol.k for t in protocol.temperature}
    for rows, labels in zip(torch.from_numpy(test[0]).split(protocol.chunk), truth.split(protocol.chunk)):
        queries = F.normalize(rows.to(device), dim=1)
        near, index = (queries @ keys.T).topk(most, dim=1)  # [chunk, most], nearest first
        for pair in right:
            predicted = _vote(near[:, : pair[0]], owner[index[:, : pair[0]]], pair[1], len(classes))
            right[pair] += int((predicted == labels.to(device)).sum())
    return {pair: 100.0 * count / len(test[1]) for pair, count in right.items()}


def _vote(near: torch.Tensor, owner: torch.Tensor, temperature: float, classes: int) -> torch.Tensor:
    """Class [B] with the most votes, from similarity and class [B, k] of the neighbors."""
    weights = ((near - near[:, :1]) / temperature).exp()  # 1 for the nearest, to avoid overflow
    return near.new_zeros(len(near), classes).scatter_add_(1, owner, weights).argmax(1)


def knn_accuracy(train: FeatureSet, test: FeatureSet, protocol: KNNProtocol) -> dict[str, Any]:
    """Score a grid of k and temperature.

    Args:
        train: Features [N, D] and labels [N].
        test: Features [M, D] and labels [M].
        protocol: See :class:`KNNProtocol`.

    Returns:
        ``accuracy`` (per cent) of the reported pair with its ``k`` and ``temperature``; ``selection`` as text;
        ``grid``, the accuracies of all pairs on the set that selected (the test set unless ``holdout``).
    """
    if protocol.selection == 'holdout':
        kept, held = split_holdout(train[1], protocol.holdout_share, protocol.seed)
        grid = knn_grid((train[0][kept], train[1][kept]), (train[0][held], train[1][held]), protocol)
    else:
        grid = knn_grid(train, test, protocol)
    pair = next(iter(grid)) if protocol.selection == 'first' else max(grid, key=lambda each: grid[each])
    accuracy = grid[pair]
    if protocol.selection == 'holdout':
        accuracy = knn_grid(train, test, KNNProtocol((pair[0],), (pair[1],), protocol.chunk))[pair]
    return {
        'accuracy': accuracy,
        'k': pair[0],
        'temperature': pair[1],
        'selection': SELECTIONS[protocol.selection],
        'grid': [{'k': k, 'temperature': t, 'accuracy': value} for (k, t), value in grid.items()],
    }
