"""Train one config: ``python tools/train.py configs/... [--work-dir DIR] [--resume] [--amp] ...``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmselfsup_graft.cli.options import add_train_options, train_arguments


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Train one config')
    parser.add_argument('config', help='config file')
    add_train_options(parser)
    parser.add_argument(
        '--pretrained', metavar='FILE', help="weights (or zoo:NAME) for a detector's or segmentor's backbone"
    )
    parser.add_argument('--no-validate', action='store_true', help='leave validation out')
    parser.add_argument('--print-config', action='store_true', help='print the resolved config and stop')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Resolve the config and train."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.engine.train import resumes, set_pretrained, train, training_config

    cfg = training_config(**train_arguments(args))
    if args.pretrained is not None and not resumes(cfg):
        set_pretrained(cfg, args.pretrained)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.print_config:
        print(cfg.pretty_text)
        return
    from mmselfsup_graft.engine.resuming.latest import finished

    note = finished(cfg)
    if note is not None:
        print(note)
        return
    train(cfg, args.overwrite)
    _say_what_to_do(cfg)


def _say_what_to_do(cfg: Any) -> None:
    """Print how to use the encoder that was trained."""
    from mmengine.dist import is_main_process

    from mmselfsup_graft.engine.resuming.latest import latest_checkpoint
    from mmselfsup_graft.export.after_training import next_steps

    newest = latest_checkpoint(cfg.work_dir, cfg) if is_main_process() else None
    text = None if newest is None else next_steps(newest, _convert_command())
    if text:
        print(f'\n{text}')


def _convert_command() -> str:
    """How the user calls the converter: beside the script that runs, or by the console command."""
    beside = Path(sys.argv[0]).parent / 'model_converters' / 'convert.py'
    return f'python {beside}' if beside.is_file() else 'graft convert'
