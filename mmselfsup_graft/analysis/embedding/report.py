"""A page of a table of features: nearest neighbors, near-duplicates and outliers."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmselfsup_graft.analysis.pages.document import render, write_html
from mmselfsup_graft.analysis.pages.picture import Picture, picture, thumbnail_of
from mmselfsup_graft.analysis.pages.shown import Image
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.compared_checkpoints import write_rows
from mmselfsup_graft.evaluation.embedding.image_table import ImageTable

from .chosen import choose_queries, spread
from .measure import near_duplicates, nearest_neighbors, neighbor_distance, same_class_share

_TEMPLATES = Path(__file__).parent / 'templates'
_FEWEST = 3
_MOST_GROUPS, _MOST_OF_GROUP = 30, 12
_QUERIES = 12
_OF_SHARE = 2000  # images by which the share of same-class neighbors is estimated


class Similar(NamedTuple):
    """What :func:`write_neighbors` found.

    Attributes:
        groups: Numbers of images of every group of near-duplicates, groups and images with equal ones first.
        outliers: Numbers of images, the farthest from their neighbors first.
    """

    groups: list[list[int]]
    outliers: list[int]


class Member(NamedTuple):
    """An image of a group of near-duplicates: its number, its largest similarity to another one, and how they are the
    same.
    """

    row: int
    similarity: float
    kind: str


_KINDS = ('same file', 'same pixels', 'similar')


def list_files(target: Path) -> tuple[Path, Path]:
    """The lists of near-duplicates and outliers beside a page."""
    return target.with_name(f'{target.stem}_duplicates.csv'), target.with_name(f'{target.stem}_outliers.csv')


def write_neighbors(
    table: ImageTable,
    target: Path,
    queries: Sequence[str] = (),
    count: int = 8,
    threshold: float = 0.99,
    about: Mapping[str, str] | None = None,
) -> Similar:
    """Write a page with nearest neighbors, near-duplicates and outliers, and lists of the latter two as CSV beside it.

    Args:
        table: Features of image files.
        target: HTML file to write; ``<stem>_duplicates.csv`` and ``<stem>_outliers.csv`` are written beside it.
        queries: Files of the table whose neighbors are shown; none takes images spread over the classes.
        count: Neighbors per image.
        threshold: Similarity of near-duplicates, see :func:`near_duplicates`.
        about: Further facts for the head of the page.

    Raises:
        ConfigError: If a query is not in the table, or a number is impossible.
        DataError: If the table has fewer than three images.
    """
    if len(table) < _FEWEST:
        raise DataError(f'the table has {len(table)} images; neighbors need {_FEWEST}')
    if count < 1:
        raise ConfigError(f'the number of neighbors is {count}, expected 1 or more')
    count = min(count, len(table) - 1)
    labels, names = table.numbered()
    asked = _asked(table, queries, labels)
    found = near_duplicates(table.vectors, threshold)
    distance = neighbor_distance(table.vectors, count)
    farthest = np.argsort(-distance, kind='stable')
    groups = [_members(table, *each) for each in zip(found.groups, found.similarity)]
    groups.sort(key=lambda group: _KINDS.index(group[0].kind))
    lists = _write_lists(table, target, groups, distance, farthest)
    show = _Pictures(table)
    facts = {**(about or {}), 'Images': f'{len(table):,}', 'Classes': str(len(names) or 'no labels')}
    facts['Near-duplicates'] = f'{sum(map(len, found.groups)):,} images in {len(found.groups):,} groups'
    page = render(
        'neighbors.html',
        _TEMPLATES,
        title='Similar images',
        lead='Nearest neighbors, near-duplicates and outliers by the features of an encoder.',
        facts=facts,
        rows=_neighbor_rows(show, table, asked, count),
        share=_share(table, labels, count),
        groups=[_drawn(show, group) for group in groups[:_MOST_GROUPS]],
        more_groups=max(0, len(found.groups) - _MOST_GROUPS),
        threshold=f'{threshold:g}',
        list=lists[0].name,
        count=count,
        outliers=[show(row, f'{distance[row]:.3f}') for row in farthest[:_QUERIES].tolist()],
    )
    write_html(page, target)
    return Similar([[each.row for each in group] for group in groups], farthest.tolist())


class _Pictures:
    """Pictures of the images of a table; each file is read once."""

    def __init__(self, table: ImageTable) -> None:
        self.table = table
        self._read: dict[int, Image | None] = {}

    def __call__(self, row: int, title: str) -> Picture:
        if row not in self._read:
            self._read[row] = thumbnail_of(self.table.paths[row])
        image, path = self._read[row], self.table.paths[row]
        label = '' if self.table.labels is None else self.table.labels[row]
        if image is None:
            image, title = np.full((64, 64), 127, np.uint8), f'{title} (cannot be read)'
        return picture(image, path, title, label or Path(path).name)


def _asked(table: ImageTable, queries: Sequence[str], labels: np.ndarray | None) -> np.ndarray:
    if not queries:
        return choose_queries(labels, len(table), _QUERIES)
    places = {str(Path(path).absolute()): row for row, path in enumerate(table.paths)}
    missing = [query for query in queries if str(Path(query).absolute()) not in places]
    if missing:
        raise ConfigError(
            f'{missing[0]} is not one of the {len(table):,} images, the first of which is {table.paths[0]}'
        )
    return np.array([places[str(Path(query).absolute())] for query in queries])


def _drawn(show: '_Pictures', group: Sequence[Member]) -> tuple[list[Picture], int]:
    """The first pictures of a group of near-duplicates, and the number of further ones."""
    shown = group[:_MOST_OF_GROUP]
    return [show(each.row, f'{each.kind}, {each.similarity:.3f}') for each in shown], len(group) - len(shown)


def _neighbor_rows(
    show: _Pictures, table: ImageTable, asked: np.ndarray, count: int
) -> list[tuple[Picture, list[Picture]]]:
    unit = table.vectors / np.maximum(np.linalg.norm(table.vectors, axis=1, keepdims=True), 1e-12)
    found = nearest_neighbors(table.vectors, asked, count)
    return [
        (show(query, ''), [show(row, f'{float(unit[query] @ unit[row]):.3f}') for row in near.tolist()])
        for query, near in zip(asked.tolist(), found)
    ]


def _share(table: ImageTable, labels: np.ndarray | None, count: int) -> str:
    """How often neighbors are of the same class, of up to 2,000 images."""
    if labels is None:
        return ''
    rows = spread(labels, len(table), _OF_SHARE)
    near = min(count, len(rows) - 1)
    share = same_class_share(table.vectors[rows], labels[rows], near)
    return f'Of {len(rows):,} images, {100 * share:.1f} % of the {near} nearest are of the same class.'


def _members(table: ImageTable, group: Sequence[int], similarity: Sequence[float]) -> list[Member]:
    """A group of near-duplicates, equal ones first; each is compared with all others by its bytes and its pixels."""
    contents = [_digests(table.paths[row]) for row in group]
    members = []
    for number, (file, pixels) in enumerate(contents):
        others = contents[:number] + contents[number + 1 :]
        same_file = bool(file) and any(file == other for other, _ in others)
        same_pixels = bool(pixels) and any(pixels == other for _, other in others)
        kind = _KINDS[0] if same_file else _KINDS[1] if same_pixels else _KINDS[2]
        members.append(Member(group[number], similarity[number], kind))
    return sorted(members, key=lambda each: _KINDS.index(each.kind))


def _write_lists(
    table: ImageTable, target: Path, groups: Sequence[Sequence[Member]], distance: np.ndarray, farthest: np.ndarray
) -> list[Path]:
    """Write near-duplicates and outliers as CSV beside the page; returns the files."""
    duplicates, outliers = list_files(target)
    rows = [
        (number, table.paths[each.row], f'{each.similarity:.6f}', each.kind)
        for number, group in enumerate(groups, 1)
        for each in group
    ]
    write_rows(duplicates, ('group', 'path', 'similarity', 'kind'), rows)
    far = [(table.paths[row], f'{distance[row]:.6f}') for row in farthest.tolist()]
    write_rows(outliers, ('path', 'distance'), far)
    return [duplicates, outliers]


def _digests(path: str) -> tuple[str, str]:
    """Hashes of a file's bytes and of its pixels; empty if it cannot be read."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return '', ''
    image = thumbnail_of(path, 10**6)
    pixels = '' if image is None else hashlib.sha256(f'{image.shape}'.encode() + image.tobytes()).hexdigest()
    return hashlib.sha256(content).hexdigest(), pixels
