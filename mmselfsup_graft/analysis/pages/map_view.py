"""Images on maps and with their neighbors, in the form for the template."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .images import data_uri, drawing_ink, in_color, is_pixelated, recolored, sheet
from .palette import COLORED, DARK, LIGHT, OTHER
from .shown import Embedding, Representation, Sample

_COVERED = 0.5  # share of a map that its images would cover without overlap
_LARGEST, _TILE = 9.0, 48  # per cent of a map's width, and dots in the sheet
_THUMBNAIL = 96
_SHORT = 8  # length of a name that fits on a map


@dataclass(frozen=True)
class Point:
    """An image on a map: its number, left and top in per cent, and the color of its class."""

    number: int
    left: float
    top: float
    color: str


@dataclass(frozen=True)
class Tag:
    """The symbol of a class on a map, and its place."""

    sign: str
    color: str
    left: float
    top: float


@dataclass(frozen=True)
class Key:
    """A class in the legend: its name, its symbol on a map (empty: none), color and number of images."""

    name: str
    sign: str
    color: str
    count: int


@dataclass(frozen=True)
class Sheets:
    """The images of all maps in one picture for each color scheme.

    Attributes:
        light: Address of the picture.
        dark: Likewise; the same unless the images are colored drawings.
        per_row: Images in a row of it.
        colored: Whether the images have the color of their class; else they get a frame.
        pixelated: Whether single pixels are visible.
    """

    light: str
    dark: str
    per_row: int
    colored: bool
    pixelated: bool

    def place(self, number: int) -> str:
        """CSS position of an image in the picture."""
        last = max(1, self.per_row - 1)
        return f'{100 * (number % self.per_row) / last:.4g}% {100 * (number // self.per_row) / last:.4g}%'


@dataclass(frozen=True)
class Thumbnail:
    """An image in a list of neighbors.

    Attributes:
        uri: Its address.
        label: Its class, or its number.
        same: Whether it has the query's class; None without labels.
    """

    uri: str
    label: str
    same: bool | None


def make_sheets(sample: Sample) -> Sheets:
    """Draw all images of a sample into pictures; gray drawings get the color of their class."""
    ink = None if sample.labels is None else drawing_ink(sample.images)
    pixelated = all(is_pixelated(image) for image in sample.images)
    side = max(max(image.shape[:2]) for image in sample.images) if pixelated else _TILE
    if ink is None:
        whole, per_row = sheet([in_color(image) for image in sample.images], side)
        uri = data_uri(whole, largest=max(whole.shape))
        return Sheets(uri, uri, per_row, False, pixelated)
    colors = class_colors(sample)
    uris = []
    for palette in (LIGHT, DARK):
        tiles = [recolored(image, ink, palette[color]) for image, color in zip(sample.images, colors)]
        whole, per_row = sheet(tiles, side)
        uris.append(data_uri(whole, largest=max(whole.shape)))
    return Sheets(uris[0], uris[1], per_row, True, pixelated)


def class_colors(sample: Sample) -> list[str]:
    """Name of the color of every image: the most frequent classes have one of their own."""
    if sample.labels is None:
        return [OTHER] * len(sample.images)
    own = _own_colors(sample.labels)
    return [own.get(int(label), OTHER) for label in sample.labels]


def legend(sample: Sample) -> list[Key]:
    """The classes that have a color, in the order of their numbers, then all others as one."""
    if sample.labels is None:
        return []
    own = _own_colors(sample.labels)
    counts = np.bincount(sample.labels, minlength=len(sample.classes))
    signs = _signs(sample, own)
    keys = [Key(sample.classes[label], signs[label], color, int(counts[label])) for label, color in own.items()]
    rest = [int(counts[label]) for label in set(sample.labels.tolist()) - set(own)]
    return keys + ([Key(f'{len(rest)} other classes', '', OTHER, sum(rest))] if rest else [])


def points_of(representation: Representation, sample: Sample) -> list[Point]:
    """All images of a map, in per cent of its width and height; distances keep their proportions."""
    colors = class_colors(sample)
    places = _to_percent(representation.points, image_size(sample))
    return [Point(number, x, y, color) for number, ((x, y), color) in enumerate(zip(places.tolist(), colors))]


def tags_of(representation: Representation, sample: Sample) -> list[Tag]:
    """Symbols of the colored classes of a map, each where most of its images are."""
    if sample.labels is None:
        return []
    places = _to_percent(representation.points, image_size(sample))
    own = _own_colors(sample.labels)
    signs = _signs(sample, own)
    tags = []
    for label, color in own.items():
        x, y = _densest(places[sample.labels == label]).tolist()
        tags.append(Tag(signs[label], color, x, y))
    return tags


def zoom(sample: Sample) -> float:
    """How much larger the image under the pointer is shown."""
    return round(max(2.4, _LARGEST / image_size(sample)), 1)


def image_size(sample: Sample) -> float:
    """Side of an image on a map in per cent of its width."""
    return min(_LARGEST, 100 * (_COVERED / len(sample.images)) ** 0.5)


def thumbnail(sample: Sample, number: int, query: int | None = None) -> Thumbnail:
    """An image of a sample as a neighbor of another one, or as the query itself."""
    same = None
    if query is not None and sample.labels is not None:
        same = bool(sample.labels[number] == sample.labels[query])
    uri = data_uri(sample.images[number], largest=_THUMBNAIL)
    return Thumbnail(uri, sample.class_of(number) or f'image {number + 1}', same)


def neighbor_rows(embedding: Embedding) -> list[tuple[Thumbnail, list[list[Thumbnail]]]]:
    """For every query: its image, and for each representation its neighbors."""
    sample = embedding.sample
    return [
        (
            thumbnail(sample, query),
            [[thumbnail(sample, n, query) for n in each.neighbors[row].tolist()] for each in embedding.representations],
        )
        for row, query in enumerate(embedding.queries.tolist())
    ]


def _own_colors(labels: np.ndarray) -> dict[int, str]:
    """Label -> color of the most frequent classes, in the order of the labels."""
    found, counts = np.unique(labels, return_counts=True)
    frequent: Sequence[int] = sorted(found[np.argsort(-counts, kind='stable')[:COLORED]].tolist())
    return {int(label): f'k{place}' for place, label in enumerate(frequent)}


def _signs(sample: Sample, own: dict[int, str]) -> dict[int, str]:
    """Label -> name of the class or, if one of the names is too long for a map, its number in the legend."""
    if all(len(sample.classes[label]) <= _SHORT for label in own):
        return {label: sample.classes[label] for label in own}
    return {label: str(number) for number, label in enumerate(own, 1)}


def _densest(places: np.ndarray) -> np.ndarray:
    """The place [2] that has a third of the places [N, 2] nearest to it."""
    distances = np.linalg.norm(places[:, None] - places, axis=2)  # [N, N]
    reach = np.sort(distances, axis=1)[:, len(places) // 3]
    return places[reach.argmin()]


def _to_percent(points: np.ndarray, size: float) -> np.ndarray:
    """Middles of the images [N, 2] such that all of them lie wholly on the map."""
    low, high = points.min(0), points.max(0)
    room = 100 - size - 1
    scaled = (points - (low + high) / 2) / (max(high - low) or 1.0) * room
    return np.round(scaled * [1, -1] + 50, 2)
