"""Weighted k-NN against loops and against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import KNNProtocol, knn_accuracy, knn_grid
from mmselfsup_graft.evaluation.protocols.selection import split_holdout


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
    centers = np.random.default_rng(0).normal(size=(3, 5))
    scales = rng.uniform(0.1, 10.0, (count, 1))  # lengths must not matter
    return scales * (centers[labels] + 1.5 * rng.normal(size=(count, 5))), labels


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 100.0), (40, 0.5)])
def test_equals_the_slow_reference(k, temperature):
    train, test = samples(50, 1), samples(60, 2)
    expected = slow_knn(train, test, k, temperature)
    assert knn_accuracy(train, test, KNNProtocol((k,), (temperature,)))['accuracy'] == pytest.approx(expected)
    assert 33 < expected < 100


def test_more_neighbors_than_images_means_all_of_them():
    train, test = samples(8, 1), samples(60, 2)
    expected = slow_knn(train, test, 8, 0.07)
    assert knn_accuracy(train, test, KNNProtocol())['accuracy'] == pytest.approx(expected)


def test_votes_are_weighted():
    """One very near neighbor beats two far ones of another class; with a high temperature the two win."""
    train = (np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 1, 1]))
    test = (np.array([[1.0, 0.05]]), np.array([0]))
    assert knn_accuracy(train, test, KNNProtocol((3,)))['accuracy'] == 100.0
    assert knn_accuracy(train, test, KNNProtocol((3,), (100.0,)))['accuracy'] == 0.0


def sklearn_accuracy(train, test, k: int, temperature: float) -> float:
    model = KNeighborsClassifier(k, metric='cosine', weights=lambda d: np.exp((1.0 - d) / temperature))
    return 100.0 * model.fit(*train).score(*test)


def test_a_grid_equals_scikit_learn_for_every_pair_and_chunk():
    train, test = samples(90, 3), samples(70, 4)
    protocol = KNNProtocol((7, 1, 200, 30), (0.07, 0.5, 5.0), chunk=32)
    grid = knn_grid(train, test, protocol)
    assert list(grid) == [(k, t) for k in (7, 1, 200, 30) for t in (0.07, 0.5, 5.0)]
    for (k, temperature), accuracy in grid.items():
        expected = sklearn_accuracy(train, test, min(k, 90), temperature)
        assert accuracy == pytest.approx(expected), (k, temperature)
    assert len(set(grid.values())) > 3
    assert knn_grid(train, test, KNNProtocol((7, 1, 200, 30), (0.07, 0.5, 5.0), chunk=1000)) == grid


def test_small_temperatures_do_not_overflow():
    train, test = samples(50, 1), samples(60, 2)
    train, test = (train[0].astype(np.float32), train[1]), (test[0].astype(np.float32), test[1])
    accuracy = knn_accuracy(train, test, KNNProtocol((10,), (0.001,)))['accuracy']
    assert accuracy == pytest.approx(sklearn_accuracy(train, test, 1, 1.0), abs=5)  # nearly the nearest alone


def test_labels_need_not_be_consecutive():
    train, test = samples(50, 1), samples(60, 2)
    far = [(each[0], np.array([5, 90, 7])[each[1]]) for each in (train, test)]
    assert knn_accuracy(*far, KNNProtocol()) == knn_accuracy(train, test, KNNProtocol())
    unseen = (test[0], np.where(far[1][1] == 90, 91, far[1][1]))  # a class that the training set lacks is never right
    assert knn_accuracy(far[0], unseen, KNNProtocol())['accuracy'] < knn_accuracy(*far, KNNProtocol())['accuracy']


def test_who_selects():
    train, test = samples(80, 5), samples(60, 6)
    options = {'k': (1, 5, 40), 'temperature': (0.07, 10.0), 'seed': 3, 'holdout_share': 0.3}
    grid = knn_grid(train, test, KNNProtocol(**options))
    first = knn_accuracy(train, test, KNNProtocol(**options))
    assert (first['k'], first['temperature'], first['accuracy']) == (1, 0.07, grid[1, 0.07])
    assert 'nothing is selected' in first['selection']
    best = knn_accuracy(train, test, KNNProtocol(**options, selection='test'))
    assert best['accuracy'] == max(grid.values()) > grid[1, 0.07]
    assert 'evaluation set itself' in best['selection']

    held_out = knn_accuracy(train, test, KNNProtocol(**options, selection='holdout'))
    kept, held = split_holdout(train[1], 0.3, 3)
    inner = knn_grid((train[0][kept], train[1][kept]), (train[0][held], train[1][held]), KNNProtocol(**options))
    pair = max(inner, key=lambda each: inner[each])
    assert (held_out['k'], held_out['temperature']) == pair
    assert held_out['accuracy'] == grid[pair]
    assert [each['accuracy'] for each in held_out['grid']] == list(inner.values())
    assert 'held-out part' in held_out['selection']


@pytest.mark.parametrize('options', [{'k': 20}, {'k': ()}, {'k': (0,)}, {'temperature': (0.0,)}, {'chunk': 0}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ConfigError, match=r'evaluation\.knn\.(k|temperature|chunk) must be'):
        KNNProtocol(**options)
