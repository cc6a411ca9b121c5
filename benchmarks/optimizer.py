#!/usr/bin/env python
"""Optimizers and moving averages: ``python benchmarks/optimizer.py [--device cuda]``.

See docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.options import chosen, compare, parser
from harness.tables import fact, ratio, timing
from harness.task import Settings
from subjects.optimizer import IMPLEMENTATIONS, SIZES, SUBJECTS

from mmselfsup_graft.cli.running import run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    options = parser('Time optimizers and moving averages', steps=3, rounds=5, batch_size=1)
    options.add_argument('--kinds', nargs='+', metavar='NAME', help=f'of {", ".join(SUBJECTS)}')
    options.add_argument('--size', choices=SIZES, default='vit-b', help='whose parameters')
    return options.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    kinds = chosen(args.kinds, list(SUBJECTS), 'kind')
    names = chosen(args.implementations, IMPLEMENTATIONS, 'implementation')
    settings = Settings(args.device, threads=args.threads, warmup=args.warmup, batch_size=1)
    clock = 'cpu' if args.device == 'cpu' else 'wall'
    first = {f'{kind}-{args.size}': members[0] for kind, members in SUBJECTS.items()}
    columns = [
        timing('CPU ms', 'cpu', '.2f') if args.device == 'cpu' else timing('GPU ms', 'gpu', '.3f'),
        timing('wall ms', 'wall', '.2f'),
        *(ratio(name) for name in first.values()),
        fact('calls', 'calls'),
        fact('host reads', 'host_reads'),
        fact('syncs', 'syncs'),
    ]
    compare(
        args,
        'optimizer',
        [f'{kind}-{args.size}' for kind in kinds],
        lambda subject: [name for name in names if name in SUBJECTS[subject.partition('-')[0]]],
        lambda subject: (first[subject],),
        settings,
        lambda _: clock,
        columns,
    )


if __name__ == '__main__':
    run_tool(main)
