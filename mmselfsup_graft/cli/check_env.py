"""Report what is installed, what this machine supports, and the commands for missing parts."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from mmselfsup_graft.utils.environment import can_pretrain, check_environment, format_report


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', action='store_true', help='print the rows as JSON instead of a table')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; return 0 when pre-training can run and 1 otherwise."""
    args = make_parser().parse_args(argv)
    rows = check_environment()
    ready = can_pretrain(rows)
    if args.json:
        print(json.dumps({'can_pretrain': ready, 'rows': [asdict(row) for row in rows]}, indent=2))
    else:
        print(format_report(rows))
    return 0 if ready else 1
