"""Nearest neighbors, near-duplicates and outliers of a folder: ``graft neighbors FOLDER --model CHECKPOINT``.

Writes one HTML page, and the near-duplicates and outliers as CSV beside it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .feature_source import add_source_options, read_source


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Nearest neighbors, near-duplicates and outliers')
    add_source_options(parser)
    add = parser.add_argument
    add('--query', nargs='+', default=[], metavar='FILE', help='images of the folder; default: spread over the classes')
    add('--count', type=int, default=8, help='neighbors per image (default: 8)')
    add('--threshold', type=float, default=0.99, help='similarity of near-duplicates (default: 0.99)')
    add('--out', type=Path, default=Path('neighbors.html'), help='page to write (default: neighbors.html)')
    add('--overwrite', action='store_true', help='replace existing results')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the images and write page and lists."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.embedding.report import list_files, write_neighbors
    from mmselfsup_graft.engine.launching.existing import refuse_existing

    lists = list_files(args.out)
    refuse_existing([args.out, *lists], args.overwrite, '--out')
    table, about = read_source(args)
    found = write_neighbors(table, args.out, args.query, args.count, args.threshold, about)
    same = f'{sum(map(len, found.groups)):,} near-duplicates (groups: {len(found.groups):,})'
    print(f'{args.out}: {len(table):,} images, {same}; lists: {lists[0].name}, {lists[1].name}')
