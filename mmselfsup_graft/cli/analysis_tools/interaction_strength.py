"""Interaction strength of classifiers: ``interaction_strength.py CONFIG NAME=CHECKPOINT [NAME=CHECKPOINT ...]``.

Measures the multi-order interaction strength (representation bottleneck) of fine-tuned classifiers on training images
and draws it over the order. CONFIG and checkpoints are those of ``tools/finetune.py``. A classifier with another config
is written ``NAME=OTHER_CONFIG.py:CHECKPOINT``, fresh weights ``NAME=random``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_cfg_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Interaction strength of classifiers over the order')
    add = parser.add_argument
    add('config', help='config of a fine-tuning run')
    add('checkpoints', nargs='+', metavar='NAME=CHECKPOINT', help='or NAME=OTHER_CONFIG.py:CHECKPOINT, NAME=random')
    add('--grid', type=int, help='patches per side (default: 14 if it divides the images, as at 224 pixels, else 16)')
    add('--images', type=int, default=500, help='training images (default: 500)')
    add('--pairs', type=int, default=50, help='pairs of patches per image (default: 50)')
    add('--contexts', type=int, default=50, help='contexts per pair and order (default: 50)')
    add('--orders', type=float, nargs='+', help='shares of the other patches (default: 0 .05 .1 .2 ... .9 .95 1)')
    add('--stride', type=int, default=2, help='largest distance of the two patches (default: 2)')
    add('--reward', choices=['modified', 'normal', 'yi'], default='modified', help='log-odds, log p or the logit')
    add('--seed', type=int, default=0, help='of images, pairs, contexts and fresh weights')
    add('--batch-size', type=int, default=256, help='masked images per forward pass (default: 256)')
    add('--device', help='e.g. cpu, cuda:1; default: a GPU if there is one')
    add('--out-dir', type=Path, help='where to write; default: work_dirs/<config name>/interaction_strength')
    add_cfg_options(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, draw the figure and print the results."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.interaction.measure import ORDERS
    from mmselfsup_graft.analysis.interaction.report import compare_interactions, report_interaction
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.engine.launching.work_dir import default_work_dir
    from mmselfsup_graft.evaluation.compared_checkpoints import measuring_device, read_compared

    out_dir = args.out_dir or default_work_dir(args.config) / 'interaction_strength'
    refuse_existing([out_dir / 'interaction_strength.csv'], args.overwrite, '--out-dir')
    measured = compare_interactions(
        read_compared(args.config, args.checkpoints, args.cfg_options),
        measuring_device(args.device),
        args.images,
        args.batch_size,
        args.grid,
        pairs=args.pairs,
        contexts=args.contexts,
        orders=tuple(args.orders or ORDERS),
        stride=args.stride,
        reward=args.reward,
        seed=args.seed,
    )
    found, text = {}, ''
    for name, result in measured:
        found[name] = result
        text = report_interaction(found, out_dir)  # after each of them: an interrupted run keeps its results
    print(text)
    print(f'CSV, picture and this text: {out_dir}')
