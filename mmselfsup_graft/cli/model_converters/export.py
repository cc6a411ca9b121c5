"""Write an encoder as a graph: ``graft export CHECKPOINT out.onnx`` or ``out.pt2``.

The graph takes raw pixels in 0..255 and gives features. Its outputs are compared with those of torch before the file is
written.
"""

import argparse
from collections.abc import Sequence

from mmselfsup_graft.cli.options import add_export_options, export_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Write an encoder as ONNX or as a program of torch.export')
    parser.add_argument('checkpoint', help='checkpoint of any known format, or zoo:NAME')
    parser.add_argument('destination', help='file to write: .onnx or .pt2')
    parser.add_argument('--images', metavar='DIR', help='real images for the comparison; default: three photographs')
    parser.add_argument('--classifier', action='store_true', help='with the classifier of a fine-tuned model: logits')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    add_export_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Trace, compare, write."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.export.graph import export_graph

    options = {'images': args.images, 'classifier': args.classifier, 'overwrite': args.overwrite}
    print(export_graph(args.checkpoint, args.destination, **options, **export_options(args)).text())
