"""Operations and parameters of a training: ``graft flops CONFIG``.

Counts the encoder's forward pass, and loss and gradients of a training step, per image. It runs the model once on the
CPU with two random images; no data is needed.
"""

import argparse
from collections.abc import Sequence

from mmselfsup_graft.cli.options import add_cfg_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Operations and parameters of a training config')
    parser.add_argument('config', help='training config')
    add_cfg_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.cost.measure import cost_of
    from mmselfsup_graft.analysis.cost.report import cost_text
    from mmselfsup_graft.engine.train import load_config

    print(cost_text(cost_of(load_config(args.config, args.cfg_options))))
