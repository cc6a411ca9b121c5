"""Fine-tune a checkpoint with labels: ``python tools/finetune.py configs/benchmarks/finetune/... CHECKPOINT``.

Trains as configured, from the encoder in CHECKPOINT (any known format, or the word ``random`` for fresh weights),
tests the best epoch and appends one row to ``results.jsonl`` in the work directory.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_train_options, train_arguments


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Fine-tune a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='pre-training checkpoint, zoo:NAME, or the word random for fresh weights')
    add_train_options(parser)
    parser.add_argument(
        '--selection',
        choices=['test', 'holdout'],
        default='test',
        help='choose the best epoch on the evaluation set (as in the papers) or on a held-out part of the training set',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Resolve the config, train, test."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.engine.train import training_config
    from mmselfsup_graft.evaluation.finetuning.finetune import finetune, prepare_finetuning, result_text

    cfg = training_config(**train_arguments(args))
    run = prepare_finetuning(cfg, args.checkpoint, args.selection)
    row = finetune(run, args.config, args.overwrite)
    if row is not None:
        best = max(Path(cfg.work_dir).glob('best_*.pth'), key=lambda path: path.stat().st_mtime, default=None)
        if best is not None:
            beside = Path(sys.argv[0]).with_name('predict.py')
            print(f'classify new images: {f"python {beside}" if beside.is_file() else "graft predict"} {best} DIR')
        print(result_text(row))  # the last line
