"""Layouts and neighbors of features against slow references."""

import sys

import numpy as np
import pytest

from mmselfsup_graft.analysis.embedding.measure import (
    align,
    layout,
    near_duplicates,
    nearest_neighbors,
    neighbor_distance,
    possible_share,
    same_class_share,
)
from mmselfsup_graft.errors import ConfigError


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(23, 5)).astype(np.float32)


def brute_force(features: np.ndarray, query: int, count: int) -> list[int]:
    """Neighbors by cosine similarity, one pair at a time."""
    similar = []
    for number, other in enumerate(features):
        if number != query:
            one = features[query]
            similar.append((float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other)), number))
    return [number for _, number in sorted(similar, reverse=True)[:count]]


def test_neighbors_are_those_of_every_pair(features):
    queries = np.array([0, 7, 22])
    found = nearest_neighbors(features, queries, 6)
    assert found.tolist() == [brute_force(features, int(query), 6) for query in queries]


def test_share_of_the_same_class(features):
    labels = np.arange(23) % 3
    same = [labels[n] == labels[q] for q in range(23) for n in brute_force(features, q, 4)]
    assert same_class_share(features, labels, 4) == pytest.approx(np.mean(same))


def test_small_classes_limit_the_share():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    perfect = np.eye(3)[labels]
    assert possible_share(labels, 3) == pytest.approx((4 * 3 + 2 * 1 + 0) / (7 * 3))
    assert same_class_share(perfect, labels, 3) == pytest.approx(possible_share(labels, 3))


def test_pca_keeps_what_two_dimensions_can_keep(features):
    points, method = layout(features, 'PCA')
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centered = unit - unit.mean(0)
    scale = np.linalg.svd(centered, compute_uv=False)
    assert method == 'PCA'
    np.testing.assert_allclose(np.linalg.svd(points, compute_uv=False), scale[:2], rtol=1e-4)
    np.testing.assert_allclose(points.T @ points, np.diag(scale[:2] ** 2), atol=1e-5)


@pytest.mark.parametrize('count', [1, 2, 7])
def test_few_images_are_laid_out_by_pca(features, count):
    points, method = layout(features[:count])
    assert (points.shape, method) == ((count, 2), 'PCA')
    assert np.isfinite(points).all()


def test_tsne_separates_groups_and_repeats_itself():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 15)
    groups = (8 * np.eye(3)[labels] + rng.normal(size=(45, 3))).astype(np.float32)
    points, method = layout(groups, seed=3)
    assert method == 't-SNE'
    np.testing.assert_array_equal(points, layout(groups, seed=3)[0])
    nearest = [np.argsort(np.linalg.norm(points - point, axis=1))[1] for point in points]
    assert (labels[nearest] == labels).mean() > 0.95


def test_equal_images_are_laid_out():
    points, _ = layout(np.ones((12, 4), dtype=np.float32))
    assert np.isfinite(points).all()


def test_a_turned_and_mirrored_layout_is_turned_back(features):
    points = features[:, :2].astype(np.float64)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])
    np.testing.assert_allclose(align(points @ turn + 5, points), points - points.mean(0), atol=1e-9)


def test_unknown_method(features):
    with pytest.raises(ConfigError, match='t-SNE or PCA'):
        layout(features, 'UMAP')


def test_groups_of_duplicates_against_every_pair():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 6)).astype(np.float32) + 5

    for copy, original, noise in ((3, 10, 0.0), (20, 10, 1e-3), (7, 31, 1e-3)):
        features[copy] = features[original] + noise * rng.normal(size=6)
    unit = features - features.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = {(i, j) for i in range(40) for j in range(i + 1, 40) if unit[i] @ unit[j] >= 0.999}
    assert {(3, 10), (10, 20), (7, 31)} <= pairs
    found = near_duplicates(features, 0.999)
    inside = {(i, j) for group in found.groups for i in group for j in group if i < j}
    assert pairs <= inside
    assert sorted(map(tuple, found.groups)) == [(3, 10, 20), (7, 31)]
    for group, values in zip(found.groups, found.similarity):
        expected = [max(unit[i] @ unit[j] for j in group if j != i) for i in group]
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_duplicates_that_say_nothing(features):
    with pytest.raises(ConfigError, match='more than 5 pairs'):
        near_duplicates(np.tile(features[:2], (5, 1)), 0.9, most=5)
    with pytest.raises(ConfigError, match='in \\(0, 1\\]'):
        near_duplicates(features, 1.5)


def test_distance_to_the_neighbors(features):
    unit = features - features.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = [np.sort([1 - unit[i] @ unit[j] for j in range(23) if j != i])[:4].mean() for i in range(23)]
    np.testing.assert_allclose(neighbor_distance(features, 4), expected, atol=1e-5)


def test_principal_components_of_many_images(features):
    points, method = layout(np.tile(features, (2, 1)), 'PCA')  # more images than numbers
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    unit = unit - unit.mean(0)
    left, values, _ = np.linalg.svd(unit, full_matrices=False)
    np.testing.assert_allclose(np.abs(points[:23]), np.abs(left * values)[:, :2], atol=1e-4)
    assert method == 'PCA'


def test_umap_says_what_is_missing(features, monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ConfigError, match='pip install umap-learn'):
        layout(features, 'UMAP')
