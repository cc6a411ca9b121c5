"""Visualization of features: two-dimensional maps and nearest neighbors."""

import numpy as np

from mmselfsup_graft.errors import ConfigError

METHODS = ('t-SNE', 'PCA')
_PERPLEXITY = 30.0
_FEWEST = 8  # images, for t-SNE; PCA lays out fewer


def layout(features: np.ndarray, method: str = 't-SNE', seed: int = 0) -> tuple[np.ndarray, str]:
    """Map features to two dimensions.

    Args:
        features: [N, D].
        method: ``t-SNE`` (van der Maaten and Hinton, 2008; scikit-learn's, cosine distance, initialized by PCA) or
            ``PCA``. Fewer than 8 images are laid out by PCA.
        seed: Of t-SNE.

    Returns:
        Points [N, 2] float64 and the method that was used.

    Raises:
        ConfigError: If the method is unknown.
    """
    if method not in METHODS:
        raise ConfigError(f'method is {method!r}, expected {" or ".join(METHODS)}')
    unit = normalize_rows(features)
    start = _principal(unit)
    if method == 'PCA' or len(unit) < _FEWEST:
        return start, 'PCA'
    from sklearn.manifold import TSNE  # slow to import and needed here only

    spread = start[:, 0].std() or 1.0
    perplexity = min(_PERPLEXITY, (len(unit) - 1) / 3)
    # for unit vectors the Euclidean distance has the order of the cosine distance, and scikit-learn is faster with it
    tsne = TSNE(perplexity=perplexity, init=(1e-4 * start / spread).astype(np.float32), random_state=seed)
    return tsne.fit_transform(unit.astype(np.float32)).astype(np.float64), 't-SNE'


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
    similarity = unit[queries] @ unit.T  # [Q, N]
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-similarity, axis=1, kind='stable')[:, :count]


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
    values, vectors = np.linalg.eigh((centered @ centered.T).astype(np.float64))  # [N, N]: N is small, D may not be
    points = np.zeros((len(features), 2))
    kept = min(2, len(values))
    points[:, :kept] = (vectors * np.sqrt(values.clip(0)))[:, ::-1][:, :kept]
    strongest = np.abs(points).argmax(0)
    signs = np.sign(points[strongest, [0, 1]])  # an eigenvector has no sign of its own
    return points * np.where(signs == 0, 1, signs)
