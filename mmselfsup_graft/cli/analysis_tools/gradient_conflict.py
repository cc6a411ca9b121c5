"""Gradient conflict of two objectives: ``gradient_conflict.py CONFIG CHECKPOINT`` or ``--csv FILE``.

Measures the cosine of the objectives' gradients per layer of a multi-task checkpoint (or reads the
measurements of GradientConflictHook), draws it, and proposes where to graft and the learning rates.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_cfg_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Conflict of two objectives over depth, and where to graft')
    parser.add_argument('config', nargs='?', help='config of a multi-task run')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of that run')
    parser.add_argument('--csv', help='read measurements instead of a checkpoint')
    parser.add_argument('--batches', type=int, default=50, help='batches to measure (default: 50)')
    parser.add_argument('--seed', type=int, default=0, help='of data order, augmentation and masks')
    parser.add_argument('--out-dir', help='output folder; default: next to the checkpoint or the CSV')
    parser.add_argument(
        '--lower', default='mim', help='objective that keeps the lower layers (default: mim, as in the paper)'
    )
    parser.add_argument('--base-lr', type=float, default=1.0, help='learning rate above the proposed cut')
    parser.add_argument('--low-factor', type=float, default=0.1, help='share of it below the cut')
    add_cfg_options(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure or read, draw the figures and print the proposal."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis import ConflictProfile
    from mmselfsup_graft.analysis.conflict.report import profile_of_checkpoint, report_conflict
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.engine.train import load_config
    from mmselfsup_graft.errors import ConfigError

    if bool(args.csv) == bool(args.config) or bool(args.config) != bool(args.checkpoint):
        raise ConfigError('give CONFIG and CHECKPOINT, or --csv FILE alone')
    if args.batches < 1:
        raise ConfigError(f'--batches must be at least 1, got {args.batches}')
    source = Path(args.csv or args.checkpoint)
    out_dir = (
        Path(args.out_dir) if args.out_dir else source.with_name(source.stem if args.csv else f'{source.stem}_conflict')
    )
    # what is drawn again from a CSV file can be drawn again
    refuse_existing([] if args.csv else [out_dir / 'gradient_conflict.csv'], args.overwrite, '--out-dir')
    if args.csv:
        profile = ConflictProfile.read_csv(args.csv)
    else:
        cfg = load_config(args.config, args.cfg_options)
        profile = profile_of_checkpoint(cfg, Path(args.checkpoint), args.batches, args.seed)
    print(report_conflict(profile, out_dir, args.base_lr, args.low_factor, args.lower))
    print(f'CSV, pictures and this text: {out_dir}')
