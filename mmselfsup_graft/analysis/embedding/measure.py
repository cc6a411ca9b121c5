"""Visualization of features: two-dimensional maps and nearest neighbors."""

from typing import Any, NamedTuple

import numpy as np

from mmselfsup_graft.errors import ConfigError

METHODS = ('t-SNE', 'PCA', 'UMAP')
_PERPLEXITY = 30.0
_ROWS = 1024  # of a matrix of similarities
_FEWEST = 8  # images, for t-SNE; PCA lays out fewer


def layout(features: np.ndarray, method: str = 't-SNE', seed: int = 0) -> tuple[np.ndarray, str]:
    """Map features to two dimensions.

    Args:
        features: [N, D].
        method: ``t-SNE`` (van der Maaten and Hinton, 2008; scikit-learn's, cosine distance, initialized by PCA),
            ``PCA`` or ``UMAP`` (McInnes et al., arXiv 1802.03426; needs umap-learn). Fewer than 8 images are laid out
            by PCA.
        seed: Of t-SNE and UMAP.

    Returns:
        Points [N, 2] float64 and the method that was used.

    Raises:
        ConfigError: If the method is unknown, or UMAP is not installed.
    """
    if method not in METHODS:
        raise ConfigError(f'method is {method!r}, expected {", ".join(METHODS[:-1])} or {METHODS[-1]}')
    umap = _umap() if method == 'UMAP' else None
    unit = normalize_rows(features)
    start = _principal(unit)
    if method == 'PCA' or len(unit) < _FEWEST:
        return start, 'PCA'
    if umap is not None:
        reducer = umap.UMAP(n_neighbors=min(15, len(unit) - 1), metric='cosine', random_state=seed, n_jobs=1)
        return reducer.fit_transform(unit).astype(np.float64), 'UMAP'
    from sklearn.manifold import TSNE  # slow to import and needed here only

    spread = start[:, 0].std() or 1.0
    perplexity = min(_PERPLEXITY, (len(unit) - 1) / 3)
    # for unit vectors the Euclidean distance has the order of the cosine distance, and scikit-learn is faster with it
    tsne = TSNE(perplexity=perplexity, init=(1e-4 * start / spread).astype(np.float32), random_state=seed)
    return tsne.fit_transform(unit.astype(np.float32)).astype(np.float64), 't-SNE'


def _umap() -> Any:
    try:
        import umap
    except ImportError as error:
        raise ConfigError(
            'UMAP needs umap-learn, which is not installed: pip install umap-learn, or choose t-SNE or PCA'
        ) from error
    return umap


def align(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rotate and mirror a layout to be as close as possible to another one of the same images.

    Distances within the layout do not change (orthogonal Procrustes).

    Args:
        points: [N, 2].
        reference: [N, 2], in the same order.

    Returns:
        [N, 2], centered.
    """
    centered, goal = points - points.mean(0), reference - reference.mean(0)
    left, _, right = np.linalg.svd(centered.T @ goal)
    return centered @ (left @ right)


def nearest_neighbors(features: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """The images most similar to some of them, by cosine similarity.

    Args:
        features: [N, D].
        queries: [Q] numbers of images.
        count: Neighbors per query, at most N - 1.

    Returns:
        [Q, count] numbers of images, most similar first, never the query itself; of equal ones the first.
    """
    unit = normalize_rows(features)
    found = []
    for start in range(0, len(queries), _ROWS):
        asking = queries[start : start + _ROWS]
        similarity = unit[asking] @ unit.T  # [R, N]
        similarity[np.arange(len(asking)), asking] = -np.inf
        found.append(np.argsort(-similarity, axis=1, kind='stable')[:, :count])
    return np.concatenate(found)


class Duplicates(NamedTuple):
    """Images that are nearly the same.

    Attributes:
        groups: Numbers of images, ascending, of groups of two or more: each is similar to another one of its group.
        similarity: Cosine similarity of every image of the groups to the most similar one of its group.
    """

    groups: list[list[int]]
    similarity: list[list[float]]


def near_duplicates(features: np.ndarray, threshold: float = 0.99, most: int = 100_000) -> Duplicates:
    """Groups of images whose centered features have a cosine similarity of at least a threshold.

    The mean of all features is subtracted first: what all images share tells none of them apart.

    Args:
        features: [N, D].
        threshold: In (0, 1].
        most: Pairs; with more the features say too little.

    Raises:
        ConfigError: If the threshold is outside (0, 1], or there are more pairs.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f'the threshold of duplicates is {threshold}, expected a number in (0, 1]')
    unit = normalize_rows(features - features.mean(0))
    limit = threshold - 1e-6  # equal vectors reach 1 up to rounding
    group, best, pairs = np.arange(len(unit)), np.zeros(len(unit)), 0
    for start in range(0, len(unit), _ROWS):
        similarity = unit[start : start + _ROWS] @ unit.T  # [R, N]
        first, second = np.nonzero(similarity >= limit)
        later = second > first + start
        first, second, values = first[later], second[later], similarity[first[later], second[later]]
        pairs += len(first)
        if pairs > most:
            raise ConfigError(
                f'more than {most:,} pairs of images have a similarity of {threshold} or more: raise the threshold, or '
                'use features that tell images apart'
            )
        for one, other, value in zip((first + start).tolist(), second.tolist(), values.tolist()):
            group[_root(group, other)] = _root(group, one)
            best[[one, other]] = np.maximum(best[[one, other]], value)
    roots = np.array([_root(group, number) for number in range(len(group))])
    members = [np.flatnonzero(roots == root).tolist() for root in np.unique(roots[best > 0])]
    members.sort(key=lambda each: (-len(each), each[0]))
    return Duplicates(members, [[min(1.0, float(best[number])) for number in each] for each in members])


def _root(group: np.ndarray, number: int) -> int:
    """Representative of the group of an image."""
    while group[number] != number:
        group[number] = group[group[number]]
        number = group[number]
    return int(number)


def neighbor_distance(features: np.ndarray, count: int) -> np.ndarray:
    """Mean cosine distance [N] of the centered feature of every image to its ``count`` nearest: large for outliers.

    Args:
        features: [N, D].
        count: Neighbors, at most N - 1.
    """
    from sklearn.neighbors import NearestNeighbors  # slow to import and needed here only

    unit = normalize_rows(features - features.mean(0))
    found, _ = NearestNeighbors(n_neighbors=count, metric='cosine', algorithm='brute').fit(unit).kneighbors()
    return found.mean(1)  # without the image itself


def same_class_share(features: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Share of the ``count`` nearest neighbors of every image that are of its class, in [0, 1].

    Args:
        features: [N, D].
        labels: [N].
        count: Neighbors per image, at most N - 1.
    """
    found = nearest_neighbors(features, np.arange(len(features)), count)
    return float((labels[found] == labels[:, None]).mean())


def possible_share(labels: np.ndarray, count: int) -> float:
    """The highest possible :func:`same_class_share`: small classes have fewer images than neighbors.

    Args:
        labels: [N].
        count: Neighbors per image.
    """
    _, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return float(np.minimum(sizes[places] - 1, count).mean() / count)


def normalize_rows(features: np.ndarray) -> np.ndarray:
    """Rows of [N, D] scaled to length 1; rows of zeros stay."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12).astype(features.dtype)


def _principal(features: np.ndarray) -> np.ndarray:
    """The first two principal components [N, 2] float64; a missing one is 0."""
    centered = (features - features.mean(0)).astype(features.dtype)
    points = np.zeros((len(features), 2))
    kept = min(2, *centered.shape)
    if len(centered) <= centered.shape[1]:
        values, vectors = np.linalg.eigh((centered @ centered.T).astype(np.float64))  # [N, N]
        points[:, :kept] = (vectors * np.sqrt(values.clip(0)))[:, ::-1][:, :kept]
    else:
        _, vectors = np.linalg.eigh((centered.T @ centered).astype(np.float64))  # [D, D]
        points[:, :kept] = centered @ vectors[:, ::-1][:, :kept]
    strongest = np.abs(points).argmax(0)
    signs = np.sign(points[strongest, [0, 1]])  # an eigenvector has no sign of its own
    return points * np.where(signs == 0, 1, signs)
