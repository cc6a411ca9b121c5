"""Weighted k-NN against loops."""

import numpy as np
import pytest

from mmselfsup_graft.evaluation import KNNProtocol, knn_accuracy


def slow_knn(train, test, k: int, temperature: float) -> float:
    """Cosine similarity, votes ``exp(similarity / temperature)`` of the k nearest, one test image after the other."""
    right = 0
    for feature, label in zip(*test):
        cosines = [
            float(feature @ other) / float(np.linalg.norm(feature) * np.linalg.norm(other)) for other in train[0]
        ]
        votes: dict[int, float] = {}
        for index in sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]:
            votes[int(train[1][index])] = votes.get(int(train[1][index]), 0.0) + np.exp(cosines[index] / temperature)
        right += max(votes, key=lambda each: votes[each]) == label
    return 100.0 * right / len(test[1])


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    centres = np.random.default_rng(0).normal(size=(3, 5))
    scales = rng.uniform(0.1, 10.0, (count, 1))  # lengths must not matter
    return scales * (centres[labels] + 1.5 * rng.normal(size=(count, 5))), labels


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 100.0), (40, 0.5)])
def test_equals_the_slow_reference(k, temperature):
    train, test = samples(50, 1), samples(60, 2)
    expected = slow_knn(train, test, k, temperature)
    assert knn_accuracy(train, test, KNNProtocol((k,), (temperature,)))['accuracy'] == pytest.approx(expected)
    assert 33 < expected < 100


def test_more_neighbours_than_images_means_all_of_them():
    train, test = samples(8, 1), samples(60, 2)
    expected = slow_knn(train, test, 8, 0.07)
    assert knn_accuracy(train, test, KNNProtocol())['accuracy'] == pytest.approx(expected)


def test_votes_are_weighted():
    """One very near neighbour beats two far ones of another class; with a high temperature the two win."""
    train = (np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 1, 1]))
    test = (np.array([[1.0, 0.05]]), np.array([0]))
    assert knn_accuracy(train, test, KNNProtocol((3,)))['accuracy'] == 100.0
    assert knn_accuracy(train, test, KNNProtocol((3,), (100.0,)))['accuracy'] == 0.0
