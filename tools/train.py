#!/usr/bin/env python
"""Train one config: ``python tools/train.py configs/... [--work-dir DIR] [--resume] [--amp] ...``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.apis.cli import add_cfg_options, add_launch_options, run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Train one config')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where to write; default: work_dirs/<config name>')
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from a checkpoint (default: the newest)')
    parser.add_argument('--amp', action='store_true', help='half precision where the machine has it')
    parser.add_argument('--epochs', type=int, help='length of the run; the learning-rate schedule follows')
    parser.add_argument('--no-validate', action='store_true', help='leave validation out')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument('--print-config', action='store_true', help='print the resolved config and stop')
    add_cfg_options(parser)
    add_launch_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Resolve the config and train."""
    args = parse(argv)
    from mmselfsup_graft.apis.train import (
        enable_amp,
        enable_auto_scale_lr,
        enable_resume,
        load_config,
        set_epochs,
        train,
    )

    cfg = load_config(args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    cfg.launcher = args.launcher
    if args.epochs is not None:
        set_epochs(cfg, args.epochs)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume:
        enable_resume(cfg, args.resume)
    if args.print_config:
        print(cfg.pretty_text)
        return
    train(cfg)


if __name__ == '__main__':
    run_tool(main)
