"""Choosing images to show: evenly spread over the classes."""

import numpy as np


def spread(labels: np.ndarray | None, total: int, most: int) -> np.ndarray:
    """Up to ``most`` of ``total`` images, evenly spread over the classes, or over all if there are no labels: numbers,
    ascending.
    """
    order = np.arange(total) if labels is None else np.argsort(labels, kind='stable')
    if total <= most:
        return np.arange(total)
    return np.sort(order[np.linspace(0, total - 1, most).round().astype(int)])


def choose_queries(labels: np.ndarray | None, total: int, count: int) -> np.ndarray:
    """Up to ``count`` images: one of each class in turn, the first ones, or images spread over all without labels."""
    if labels is None:
        return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    classes = np.unique(labels)
    classes = classes[np.unique(np.linspace(0, len(classes) - 1, min(count, len(classes))).round().astype(int))]
    members = [np.flatnonzero(labels == label).tolist() for label in classes]
    in_turn = [each[turn] for turn in range(max(map(len, members))) for each in members if turn < len(each)]
    return np.array(in_turn[:count])
