#!/usr/bin/env python
"""mmcv's operators, compiled and by torchvision: ``python benchmarks/mmcv_ops.py [--device cuda]``.

See docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.options import chosen, compare, parser
from harness.tables import ratio, timing
from harness.task import Settings
from subjects.mmcv_ops import IMPLEMENTATIONS, SUBJECTS

from mmselfsup_graft.cli.running import run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    options = parser("Time mmcv's operators", steps=1, rounds=5, batch_size=1)
    options.add_argument('--subjects', nargs='+', metavar='NAME', help=f'of {", ".join(SUBJECTS)}')
    return options.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    subjects = chosen(args.subjects, list(SUBJECTS), 'subject')
    names = chosen(args.implementations, IMPLEMENTATIONS, 'implementation')
    settings = Settings(args.device, threads=args.threads, warmup=args.warmup, batch_size=1)
    clock = 'cpu' if args.device == 'cpu' else 'wall'
    columns = [
        timing('CPU ms', 'cpu', '.2f') if args.device == 'cpu' else timing('GPU ms', 'gpu', '.3f'),
        timing('wall ms', 'wall', '.2f'),
        ratio('compiled'),
    ]
    compare(
        args,
        'mmcv_ops',
        subjects,
        lambda _: names,
        lambda _: ('compiled',),
        settings,
        lambda _: clock,
        columns,
    )


if __name__ == '__main__':
    run_tool(main)
