"""Progress, speed and curves of training runs: ``graft logs RUN [RUN ...]``.

A run is the work directory of a training, finished or not, or that of a recipe with several. Prints a table; ``--out``
writes a page with the curves of all runs, loss, learning rate and scores.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.errors import ConfigError


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Progress, speed and curves of training runs')
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work directory of a training or a recipe')
    parser.add_argument('--out', type=Path, metavar='HTML', help='write a page with the curves')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing page')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and write the page."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.training_log.measure import find_runs, read_run
    from mmselfsup_graft.analysis.training_log.report import table_lines, write_logs
    from mmselfsup_graft.engine.launching.existing import refuse_existing

    if args.overwrite and args.out is None:
        raise ConfigError('--overwrite replaces the page of --out; give --out')
    refuse_existing([args.out] if args.out else [], args.overwrite, '--out')
    runs = [read_run(name, folder) for name, folder in find_runs(args.runs).items()]
    print(table_lines(runs))
    if args.out:
        write_logs(runs, args.out)
        print(f'curves: {args.out}')
