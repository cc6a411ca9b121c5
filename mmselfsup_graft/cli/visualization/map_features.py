"""Map of images by their features: ``graft map FOLDER --model CHECKPOINT`` or ``graft map features.parquet``.

Writes one HTML page with the images themselves, laid out by t-SNE, PCA or UMAP.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.errors import ConfigError

from .feature_source import add_source_options, read_source


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Map of images by their features')
    add_source_options(parser)
    add = parser.add_argument
    add('--methods', nargs='+', choices=['t-SNE', 'PCA', 'UMAP'], default=['t-SNE'], help='a map each (default: t-SNE)')
    add('--max-images', type=int, default=1000, help='images on the map, spread over the classes (default: 1000)')
    add('--seed', type=int, default=0, help='of t-SNE and UMAP')
    add('--out', type=Path, default=Path('map.html'), help='page to write (default: map.html)')
    add('--overwrite', action='store_true', help='replace an existing page')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Lay the images out and write the page."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.embedding.map_page import write_map
    from mmselfsup_graft.engine.launching.existing import refuse_existing

    if args.max_images < 3:
        raise ConfigError(f'--max-images must be at least 3, got {args.max_images}')
    refuse_existing([args.out], args.overwrite, '--out')
    table, about = read_source(args, args.max_images)
    count = write_map(table, args.out, args.methods, args.max_images, args.seed, about)
    print(f'{args.out}: map of {count:,} images')
