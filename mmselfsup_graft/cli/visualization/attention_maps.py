"""Attention of a ViT over images: ``graft attention IMAGE_OR_FOLDER ... --model CHECKPOINT``.

Writes one HTML page: attention of every head, and the principal components of patch features as colors. Encoders
without attention show the latter alone.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_encoder_options, encoder_from
from mmselfsup_graft.errors import ConfigError


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Attention and patch features over images')
    add = parser.add_argument
    add('images', nargs='+', type=Path, metavar='IMAGE|FOLDER', help='image files and folders of images')
    add('--num-images', type=int, default=6, help='images of a folder (default: 6)')
    add('--attention-block', type=int, metavar='N', help='block of the attention, counted from 1; default: the last')
    add('--out', type=Path, default=Path('attention.html'), help='page to write (default: attention.html)')
    add('--overwrite', action='store_true', help='replace an existing page')
    add_encoder_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the attention and write the page."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.attention.report import write_attention
    from mmselfsup_graft.engine.launching.existing import refuse_existing

    if args.num_images < 1:
        raise ConfigError(f'--num-images must be at least 1, got {args.num_images}')
    refuse_existing([args.out], args.overwrite, '--out')
    about = {'Encoder': Path(args.model).name}
    count = write_attention(encoder_from(args), args.images, args.out, args.num_images, args.attention_block, about)
    print(f'{args.out}: attention over {count} image{"s" if count != 1 else ""}')
