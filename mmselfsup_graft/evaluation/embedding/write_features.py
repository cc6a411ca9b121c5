"""Features of a folder of images, extracted and written in one call."""

from pathlib import Path

from mmselfsup_graft.evaluation.encoders import Encoder

from .folder_features import Extraction, embed_data, folder_data, forget_parts
from .image_table import ImageTable, check_suffix, write_table


def write_folder_features(
    encoder: Encoder,
    folder: str,
    out: Path,
    extraction: Extraction | None = None,
    labeled: bool = True,
    most_left_out: float | None = None,
) -> tuple[ImageTable, str]:
    """Write the features of all images in a folder; parts are kept in ``<out>.parts`` until the table is whole.

    Args:
        encoder: The encoder.
        folder: See :func:`folder_data`.
        out: ``.parquet``, ``.npy`` or ``.csv``.
        extraction: How.
        labeled: See :func:`folder_data`.
        most_left_out: See there.

    Returns:
        The table, and a line about it.
    """
    check_suffix(out)
    kept = out.with_name(f'{out.name}.parts')
    how = extraction or Extraction()
    table, dataset = embed_data(encoder, folder_data(encoder, folder, labeled, most_left_out), how, kept)
    write_table(table, out)
    forget_parts(kept)
    return table, f'{out}: {describe(table, encoder, how.feature)}{_left_out(len(dataset) - len(table))}'


def describe(table: ImageTable, encoder: Encoder, feature: str | None) -> str:
    """A table in words."""
    names = table.numbered()[1]
    classes = f'{len(names)} classes' if names else 'no labels'
    width = table.vectors.shape[1]
    return f'{len(table):,} images, {classes}, {feature or encoder.own_feature()} with {width} numbers'


def _left_out(count: int) -> str:
    return f'; {count:,} unreadable images were left out' if count else ''
