"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``.

The frozen encoder is scored by the protocols of the config's ``evaluation`` section; the checkpoint may be of any known
format. Every score is appended to ``results.jsonl`` of the work directory. A config with ``test_dataloader``,
of a detector for instance, is tested as usual with one of its own checkpoints, and its metrics go to ``test.json``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmselfsup_graft.cli.options import add_cfg_options, add_data_root, add_launch_options, parse_grid


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Score a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or zoo:NAME')
    parser.add_argument('--protocols', nargs='+', metavar='NAME', help='only these protocols of the evaluation section')
    parser.add_argument(
        '--feature', help="class_token, patch_mean or both; default: evaluation.feature, else the encoder's"
    )
    parser.add_argument(
        '--block', type=int, help='score the feature after N blocks; default: evaluation.block, else all'
    )
    parser.add_argument('--format', help='format or method of the checkpoint; default: recognized by its tensors')
    parser.add_argument('--branch', help='which encoder of the file, e.g. momentum, teacher or model_ema')
    parser.add_argument('--source-grid', metavar='HxW', help="patches per column and per row of the file's tables")
    parser.add_argument('--features', help='folder for extracted features, e.g. one for several configs')
    add_data_root(parser)
    parser.add_argument('--work-dir', help='where to write; default: work_dirs/<config name>')
    parser.add_argument('--out', help='JSON file for the result; default: test.json in the work directory')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing result')
    add_cfg_options(parser)
    add_launch_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Resolve the config and score."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.downloads.resolve import resolve_zoo
    from mmselfsup_graft.engine.launching.work_dir import default_work_dir, exclusive_work_dir
    from mmselfsup_graft.engine.train import load_config, move_data, prepare_distributed

    cfg = load_config(args.config, args.cfg_options)
    if args.data_root is not None:
        move_data(cfg, args.data_root)
    cfg.work_dir = args.work_dir or str(default_work_dir(args.config))
    cfg.launcher = args.launcher
    prepare_distributed(cfg)
    args.checkpoint = resolve_zoo(args.checkpoint)
    with exclusive_work_dir(cfg.work_dir):
        _test(args, cfg)


def _test(args: argparse.Namespace, cfg: Any) -> None:
    from mmengine.dist import is_main_process

    from mmselfsup_graft.engine.launching.existing import refuse_existing

    # scores of an encoder are also in results.jsonl, which keeps all of them
    if args.out or cfg.get('test_dataloader') is not None:
        refuse_existing([_target(args, cfg)], args.overwrite, '--out')
    if cfg.get('test_dataloader') is not None:
        from mmselfsup_graft.engine import GraftRunner

        cfg.load_from = args.checkpoint
        metrics = GraftRunner.from_cfg(cfg).test()
        if is_main_process():
            _write(args, cfg, {'checkpoint': args.checkpoint, 'metrics': metrics})
        return
    from mmselfsup_graft.evaluation.results import score_and_record

    _set_source(args, cfg)
    recorded = score_and_record(cfg, args.config, args.checkpoint, args.protocols, args.block, args.features)
    if recorded is None:
        return  # another process writes
    rows, text = recorded
    print(text)
    _write(args, cfg, {'checkpoint': args.checkpoint, 'results': rows})


def _set_source(args: argparse.Namespace, cfg: Any) -> None:
    """Set the feature and the options for reading the checkpoint in the config."""
    given = {'format': args.format, 'branch': args.branch, 'grid': parse_grid(args.source_grid)}
    given = {key: value for key, value in given.items() if value is not None}
    if given and cfg.get('evaluation') is not None:
        cfg.evaluation.source = {**cfg.evaluation.get('source', {}), **given}
    if args.feature and cfg.get('evaluation') is not None:
        cfg.evaluation.feature = args.feature


def _write(args: argparse.Namespace, cfg: Any, content: dict[str, Any]) -> None:
    from mmselfsup_graft.utils.files import write_json

    write_json(_target(args, cfg), content, default=_plain)


def _target(args: argparse.Namespace, cfg: Any) -> Path:
    return Path(args.out or Path(cfg.work_dir) / 'test.json')


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as JSON, other values as text."""
    return value.tolist() if hasattr(value, 'tolist') else str(value)
