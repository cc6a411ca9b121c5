#!/usr/bin/env python
"""Training of a detector on generated COCO: ``python benchmarks/detector.py [--device cuda --precision bf16]``.

``bf16`` is what ``tools/train.py --amp`` sets. See docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.options import chosen, compare, parser
from harness.tables import fact, rate, timing
from harness.task import Settings
from subjects.detector import IMPLEMENTATIONS, SUBJECTS

from mmselfsup_graft.cli.running import run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    options = parser('Time the training of a detector', steps=2, rounds=3, batch_size=2)
    options.add_argument('--models', nargs='+', metavar='NAME', default=SUBJECTS[:1], help=f'of {", ".join(SUBJECTS)}')
    options.add_argument('--precision', choices=['fp32', 'bf16'], default='fp32', help='bf16 is --amp')
    return options.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    compare(
        args,
        'detector',
        chosen(args.models, SUBJECTS, 'model'),
        lambda _: chosen(args.implementations, IMPLEMENTATIONS, 'implementation'),
        lambda _: (),
        Settings(args.device, args.precision, args.batch_size, args.threads, args.warmup),
        lambda _: 'wall',
        [
            timing('wall ms', 'wall'),
            timing('GPU ms', 'gpu'),
            rate(),
            fact('syncs', 'syncs'),
            fact('MB alloc.', 'peak_allocated_mb'),
            fact('finite', 'finite'),
        ],
    )


if __name__ == '__main__':
    run_tool(main)
