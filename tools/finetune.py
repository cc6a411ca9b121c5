#!/usr/bin/env python
"""Fine-tune a checkpoint with labels: ``python tools/finetune.py configs/benchmarks/finetune/... CHECKPOINT``.

Trains as the config says, from the encoder in CHECKPOINT (any known format, or the word ``random`` for fresh weights),
tests the best epoch and appends one row to ``results.jsonl`` in the work directory.
"""

import argparse
from collections.abc import Sequence

from mmselfsup_graft.cli.common import add_train_options, run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Fine-tune a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='pre-training checkpoint, or the word random for fresh weights')
    add_train_options(parser)
    parser.add_argument(
        '--selection',
        choices=['test', 'holdout'],
        default='test',
        help='choose the best epoch on the evaluation set (as in the papers) or on a held-out part of the training set',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Resolve the config, train, test."""
    args = parse(argv)
    from mmselfsup_graft.engine.train import training_config
    from mmselfsup_graft.evaluation.finetuning.finetune import finetune, prepare_finetuning, result_text

    cfg = training_config(args)
    run = prepare_finetuning(cfg, args.checkpoint, args.selection)
    row = finetune(run, args.config, args.overwrite)
    if row is not None:
        print(result_text(row))


if __name__ == '__main__':
    run_tool(main)
