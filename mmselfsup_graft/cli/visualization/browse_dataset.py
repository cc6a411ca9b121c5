"""A batch as the model of a config gets it: ``graft browse CONFIG``.

Writes one HTML page with all views after augmentation, and with the masks that the model draws. With
``randomness.seed`` in the config, these are the very images and masks of that iteration of the run in one process.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_cfg_options, add_data_root


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='What a training config feeds its model')
    add = parser.add_argument
    add('config', help='training config')
    add('--iteration', type=int, default=0, metavar='N', help='of the run, counted from 0 (default: 0)')
    add('--num-images', type=int, default=16, help='images of the batch (default: 16)')
    add('--out', type=Path, default=Path('batch.html'), help='page to write (default: batch.html)')
    add_data_root(parser)
    add_cfg_options(parser)
    add('--overwrite', action='store_true', help='replace an existing page')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Load the batch and write the page."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.batch.measure import batch_of
    from mmselfsup_graft.analysis.batch.report import write_batch
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.engine.train import load_config, move_data

    refuse_existing([args.out], args.overwrite, '--out')
    cfg = load_config(args.config, args.cfg_options)
    if args.data_root:
        move_data(cfg, args.data_root)
    batch = batch_of(cfg, args.iteration)
    write_batch(batch, args.out, args.num_images, {'Config': Path(args.config).name, 'Iteration': str(args.iteration)})
    print(f'{args.out}: iteration {args.iteration}, {len(batch.views[0])} images, views: {len(batch.views)}')
