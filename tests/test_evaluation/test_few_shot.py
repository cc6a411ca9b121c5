"""Few-shot logistic regression against scikit-learn called by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation import FewShotProtocol, center_and_normalize, few_shot_accuracies
from mmselfsup_graft.evaluation.protocols.few_shot import draw_shots
from mmselfsup_graft.evaluation.protocols.logistic import fit_logistic


def blobs(count: int, seed: int, classes: int = 4, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters: features [count, width] float32, labels in a random order."""
    centers = np.random.default_rng(0).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    return (centers[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def test_rows_are_centered_and_normalized_one_by_one():
    rows = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.0, 0.0, 3.0]], dtype=np.float32)
    half, sixth = np.sqrt(0.5), np.sqrt(1.0 / 6.0)
    expected = np.array([[-half, 0.0, half], [0.0, 0.0, 0.0], [-sixth, -sixth, 2 * sixth]])
    result = center_and_normalize(rows)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, atol=1e-12)
    assert rows[0].tolist() == [1.0, 2.0, 3.0]  # the argument is left alone


def test_draws_are_balanced_and_without_repetition():
    labels = np.array([2, 0, 2, 1, 0, 1, 2, 0, 1, 1])
    chosen = draw_shots(labels, 3, np.random.default_rng(0))
    assert len(set(chosen)) == 9
    assert np.bincount(labels[chosen]).tolist() == [3, 3, 3]
    seen = np.concatenate([draw_shots(labels, 1, np.random.default_rng(seed)) for seed in range(50)])
    assert set(seen) == set(range(10))


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(DataError, match='class 1 has 2 training images, fewer than 3 shots'):
        draw_shots(np.array([0, 0, 0, 1, 1]), 3, np.random.default_rng(0))


def test_accuracies_equal_a_fit_by_hand():
    train, test = blobs(60, 1), blobs(80, 2)
    protocol = FewShotProtocol(shots=(1, 5), draws=3, seed=7)
    result = few_shot_accuracies(train, test, protocol)
    for shots in protocol.shots:
        expected = []
        for draw in range(3):
            rng = np.random.default_rng((7, shots, draw))
            chosen = np.concatenate([rng.choice(np.flatnonzero(train[1] == c), shots, replace=False) for c in range(4)])
            x, y = train[0].astype(float), test[0].astype(float)
            x, y = (each - each.mean(1, keepdims=True) for each in (x, y))
            x, y = (each / np.sqrt((each**2).sum(1, keepdims=True)) for each in (x, y))
            # the official objective: mean cross entropy + (0.00025 / n) / 2 |W|^2, that is C = n / (n * 0.00025)
            model = LogisticRegression(C=1 / 0.00025, fit_intercept=False, tol=1e-9, max_iter=100_000)
            expected.append(100 * np.mean(model.fit(x[chosen], train[1][chosen]).predict(y) == test[1]))
        assert result[shots]['accuracies'] == pytest.approx(expected, abs=1e-9)
        assert result[shots]['mean'] == pytest.approx(np.mean(expected))
        assert result[shots]['std'] == pytest.approx(np.std(expected))
    assert result[5]['mean'] > result[1]['mean'] > 25


def test_the_solver_reaches_the_optimum_of_correlated_features():
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((300, 32)) @ (rng.standard_normal((32, 32)) * np.geomspace(1, 1e-2, 32))
    features, labels = center_and_normalize(mixed), rng.integers(0, 5, 300)
    default = fit_logistic(features, labels, 1 / FewShotProtocol().inverse_regularisation)
    assert default.converged
    exact = fit_logistic(features, labels, 1 / FewShotProtocol().inverse_regularisation, tol=1e-10, max_iter=200_000)
    assert default.objective == pytest.approx(exact.objective, rel=1e-3)


IMPOSSIBLE = [{'shots': ()}, {'shots': (0,)}, {'draws': 0}, {'inverse_regularisation': 0.0}, {'tol': 0.0}]


@pytest.mark.parametrize('options', IMPOSSIBLE)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ConfigError, match='few_shot'):
        FewShotProtocol(**options)


def test_all_rows_of_a_table_see_the_same_draws(monkeypatch):
    """What is drawn depends on labels and protocol, never on the features or on what was drawn before."""
    from mmselfsup_graft.evaluation.protocols import few_shot

    seen: list[list[np.ndarray]] = []

    def spying(labels, shots, rng):
        seen[-1].append(draw_shots(labels, shots, rng))
        return seen[-1][-1]

    monkeypatch.setattr(few_shot, 'draw_shots', spying)
    labels, test = blobs(40, 1)[1], blobs(20, 2)
    for scale, shots in ((1.0, (1, 2)), (-3.0, (1, 2)), (1.0, (2,))):
        seen.append([])
        features = scale * np.random.default_rng(len(seen)).normal(size=(40, 6))
        few_shot_accuracies((features, labels), test, FewShotProtocol(shots=shots, draws=4))
    assert len(seen[0]) == len(seen[1]) == 8
    assert all(np.array_equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(seen[0][4:], seen[2], strict=True))
    assert len({tuple(each) for each in seen[0]}) == 8


def test_the_seed_changes_the_draws():
    train, test = blobs(60, 1), blobs(80, 2)
    results = [few_shot_accuracies(train, test, FewShotProtocol(shots=(1,), draws=5, seed=s)) for s in (0, 0, 1)]
    assert results[0] == results[1]
    assert results[0][1]['accuracies'] != results[2][1]['accuracies']


def test_an_unfinished_solver_is_counted():
    train, test = blobs(60, 1), blobs(80, 2)
    result = few_shot_accuracies(train, test, FewShotProtocol(shots=(5,), draws=2, max_iter=1))
    assert result[5]['converged'] == 0
    result = few_shot_accuracies(train, test, FewShotProtocol(shots=(5,), draws=2))
    assert result[5]['converged'] == 2


def test_more_shots_than_there_are_images():
    train, test = blobs(12, 1), blobs(80, 2)  # 3 images of each class
    assert list(few_shot_accuracies(train, test, FewShotProtocol(shots=(1, 3, 4), draws=2))) == [1, 3]
    with pytest.raises(DataError, match='the smallest class has 3 training images'):
        few_shot_accuracies(train, test, FewShotProtocol(shots=(4, 5)))
