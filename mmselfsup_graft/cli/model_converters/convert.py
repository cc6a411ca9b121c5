"""Convert the backbone of a checkpoint to another library: ``convert.py SRC DST --to TARGET``."""

import argparse
from collections.abc import Sequence

from .converter_options import add_convert_options, convert_and_print


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    from mmselfsup_graft.checkpoints import TARGETS
    from mmselfsup_graft.checkpoints.formats.encoder import format_names

    parser = argparse.ArgumentParser(description='Convert the backbone of a checkpoint to another library')
    parser.add_argument('source', help='checkpoint of any known format, or zoo:NAME')
    parser.add_argument('destination', help='file to write: .pth, .pt or .safetensors')
    parser.add_argument('--to', required=True, choices=list(TARGETS), help='target library')
    known = ['auto', *format_names()]
    parser.add_argument(
        '--from', dest='method', default='auto', choices=known, help='format or method of the checkpoint'
    )
    add_convert_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Convert and print a summary."""
    args = make_parser().parse_args(argv)
    convert_and_print(args, args.to)
