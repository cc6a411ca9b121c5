"""MMDetection's converter, extended: ``selfsup2mmdet.py SRC DST --selfsup METHOD``.

The command line is MMDetection's. Unlike there, SwAV is converted too, a wrong method or an empty result is an error,
and the projection head is left out unless ``--keep-head`` is given.
"""

import argparse
from collections.abc import Sequence

from .converter_options import add_convert_options, convert_and_print


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    from mmselfsup_graft.checkpoints.formats.encoder import format_names

    parser = argparse.ArgumentParser(description='Convert a self-supervised checkpoint for MMDetection')
    parser.add_argument('source', metavar='src', help='checkpoint of self-supervised pre-training')
    parser.add_argument('destination', metavar='dst', help='file to write')
    parser.add_argument(
        '--selfsup', dest='method', required=True, choices=['auto', *format_names()], help='method, or auto'
    )
    add_convert_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Convert and print a summary."""
    args = make_parser().parse_args(argv)
    convert_and_print(args, 'mmdet')
