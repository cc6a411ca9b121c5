"""Weighted k-nearest-neighbour classification of frozen features."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KNNProtocol:
    """k-NN by cosine similarity, votes weighted by ``exp(similarity / temperature)`` (Wu et al., arXiv 1805.01978).

    Attributes:
        k: Neighbours; cut to the number of training images.
        temperature: Of the votes.
    """

    k: int = 20
    temperature: float = 0.07


def knn_accuracy(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], protocol: KNNProtocol
) -> float:
    """Accuracy in per cent; ``train`` and ``test`` are features [N, D] and labels [N]."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(
        n_neighbors=min(protocol.k, len(train[1])),
        metric='cosine',
        weights=lambda distance: np.exp((1.0 - distance) / protocol.temperature),
    )
    model.fit(*train)
    return 100.0 * float(model.score(*test))
