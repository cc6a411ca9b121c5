"""A page with maps of images by their features."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmselfsup_graft.analysis.pages.document import map_values, render, write_html
from mmselfsup_graft.analysis.pages.picture import thumbnail_of
from mmselfsup_graft.analysis.pages.shown import Representation, Sample
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.evaluation.embedding.image_table import ImageTable

from .chosen import spread
from .measure import align, layout

_TEMPLATES = Path(__file__).parent / 'templates'
_FEWEST = 3
_MAP_TILE = 96  # dots
_LEAD = 'Images placed by the features of an encoder.'


def write_map(
    table: ImageTable,
    target: Path,
    methods: Sequence[str] = ('t-SNE',),
    most: int = 1000,
    seed: int = 0,
    about: Mapping[str, str] | None = None,
) -> int:
    """Write a page with maps of images by their features.

    Args:
        table: Features of image files.
        target: HTML file to write.
        methods: Of :data:`.measure.METHODS`, one map each; later ones are rotated to match the first.
        most: Images on the map, evenly spread over the classes.
        seed: Of t-SNE and UMAP.
        about: Further facts for the head of the page.

    Returns:
        The number of images on the map.

    Raises:
        ConfigError: If a method is unknown or not installed.
        DataError: If fewer than three images can be read.
    """
    numbers, names = table.numbered()
    chosen = table.take(spread(numbers, len(table), most))
    images = [thumbnail_of(path, _MAP_TILE) for path in chosen.paths]
    rows = np.array([row for row, image in enumerate(images) if image is not None], dtype=np.int64)
    if len(rows) < _FEWEST:
        raise DataError(f'{len(rows)} of the {len(images)} images can be read ({chosen.paths[0]} ...); a map needs 3')
    shown = chosen.take(rows)
    labels = None if numbers is None else np.searchsorted(names, np.array(shown.labels))
    sample = Sample([image for image in images if image is not None], labels, names, len(table), shown.paths)
    placed: list[Representation] = []
    for method in methods:
        points, used = layout(shown.vectors, method, seed)
        points = align(points, placed[0].points) if placed else points - points.mean(0)
        placed.append(Representation(used, '', points, np.zeros((0, 0), np.int64), None))
    notes = [f'{len(images) - len(rows)} images cannot be read and are not shown.'] if len(rows) < len(images) else []
    if 't-SNE' in [each.name for each in placed]:
        notes.insert(0, 't-SNE keeps neighborhoods and not distances.')
    facts = {**(about or {}), 'Images': _counted(len(rows), len(table)), 'Classes': str(len(names) or 'no labels')}
    values = map_values(sample, tuple(placed))
    write_html(
        render('map.html', _TEMPLATES, title='Map of images', lead=_LEAD, facts=facts, shown=values, notes=notes),
        target,
    )
    return len(rows)


def _counted(shown: int, total: int) -> str:
    return f'{shown:,}' if shown == total else f'{shown:,} of {total:,}'
