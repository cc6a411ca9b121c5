"""Reconstructions of a masked-image model: ``reconstruct.py CONFIG CHECKPOINT [CHECKPOINT ...]``.

Draws images, their masked form and the reconstruction by MAE, SimMIM, A2MIM or the masked-image objective of a
MultiTask model. Several checkpoints of one config give a row each, with the same masks.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_cfg_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Original, masked and reconstructed images')
    parser.add_argument('config', help='config of a masked-image run')
    parser.add_argument('checkpoints', nargs='+', type=Path, help='checkpoints of that run')
    parser.add_argument(
        '--images',
        nargs='+',
        type=Path,
        default=[],
        metavar='FILE_OR_FOLDER',
        help='photos; resized and center-cropped. default: the test data of the config, else its training data',
    )
    parser.add_argument(
        '--side',
        type=int,
        metavar='PIXELS',
        help='reconstruct whole photos, shorter side scaled to this, in overlapping windows of the input size',
    )
    parser.add_argument('--num-images', type=int, default=8, help='images of a folder or data set (default: 8)')
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument('--out', type=Path, help='PNG to write; default: next to the first checkpoint')
    add_cfg_options(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Load the checkpoints and draw their reconstructions."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.reconstruction.report import draw_checkpoints
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.engine.train import load_config

    first = args.checkpoints[0]
    out = args.out or first.with_name(f'{first.stem}_reconstructions.png')
    refuse_existing([out], args.overwrite, '--out')
    cfg = load_config(args.config, args.cfg_options)
    draw_checkpoints(cfg, args.checkpoints, out, args.images, args.num_images, args.seed, args.side)
    print(f'picture: {out}')
