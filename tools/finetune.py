#!/usr/bin/env python
"""Fine-tune a checkpoint with labels: ``python tools/finetune.py configs/benchmarks/finetune/... CHECKPOINT``.

Trains as the config says, from the encoder in CHECKPOINT (any known format), tests the best epoch and appends one row
to ``results.jsonl`` in the work directory.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.apis.cli import add_cfg_options, add_launch_options, run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Fine-tune a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='pre-training checkpoint')
    parser.add_argument('--work-dir', help='where to write; default: work_dirs/<config name>')
    parser.add_argument(
        '--selection',
        choices=['test', 'holdout'],
        default='test',
        help='choose the best epoch on the evaluation set (as in the papers) or on a held-out part of the training set',
    )
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from a checkpoint (default: the newest)')
    parser.add_argument('--epochs', type=int, help='length of the run; the learning-rate schedule follows')
    parser.add_argument('--amp', action='store_true', help='half precision where the machine has it')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    add_cfg_options(parser)
    add_launch_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Resolve the config, train, test."""
    args = parse(argv)
    from mmselfsup_graft.apis.finetune import finetune, prepare_finetuning, result_text
    from mmselfsup_graft.apis.train import enable_amp, enable_auto_scale_lr, enable_resume, load_config, set_epochs

    cfg = load_config(args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    cfg.launcher = args.launcher
    if args.epochs is not None:
        set_epochs(cfg, args.epochs)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    run = prepare_finetuning(cfg, args.checkpoint, args.selection)
    if args.resume:
        enable_resume(cfg, args.resume)
    row = finetune(run, args.config)
    if row is not None:
        print(result_text(row))


if __name__ == '__main__':
    run_tool(main)
