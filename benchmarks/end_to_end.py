#!/usr/bin/env python
"""The whole training loop on JPEG files: ``python benchmarks/end_to_end.py [--device cuda --workers 14]``.

All rows use the toolbox's step; they differ in data loading. See docs/benchmarks.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.options import chosen, compare, parser
from harness.tables import fact, rate, ratio, timing
from harness.task import Settings
from subjects.end_to_end import IMPLEMENTATIONS, MMPRETRAIN, MODELS, PIL
from subjects.loader import enough_steps
from subjects.photos import photo_folder

from mmselfsup_graft.cli.running import run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    options = parser('Time the training loop on JPEG files', steps=None, rounds=3, batch_size=8)
    options.add_argument('--models', nargs='+', metavar='NAME', default=['mae-vit-s'], help=f'of {", ".join(MODELS)}')
    options.add_argument('--precision', choices=['fp32', 'bf16'], default='fp32', help='bf16 is autocast')
    options.add_argument('--workers', type=int, default=1, help='loader processes')
    options.add_argument('--data', help='folder of JPEGs, in class folders; default: 64 made of photographs')
    return options.parse_args(argv)


def add_waiting(entries: list[dict[str, Any]]) -> None:
    """Share of the time that the loop waited for the loader."""
    for entry in entries:
        if 'seconds' in entry:
            entry['facts']['waiting_share'] = sum(b['waiting'] for b in entry['blocks']) / sum(
                b['wall'] for b in entry['blocks']
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    args.steps = enough_steps(args.steps, 4, args.workers)
    models = chosen(args.models, MODELS, 'model')
    names = chosen(args.implementations, IMPLEMENTATIONS, 'implementation')
    columns = [
        timing('wall ms', 'wall'),
        rate(),
        timing('waiting ms', 'waiting'),
        fact('waiting', 'waiting_share', '.0%'),
        ratio(PIL),
        ratio(MMPRETRAIN),
        fact('MB', 'peak_rss_mb'),
        fact('MB alloc.', 'peak_allocated_mb'),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(
            args.device,
            args.precision,
            args.batch_size,
            args.threads,
            args.warmup,
            args.workers,
            photo_folder(args.data, temporary),
        )
        compare(
            args,
            'end_to_end',
            models,
            lambda _: names,
            lambda _: (PIL, MMPRETRAIN),
            settings,
            lambda _: 'wall',
            columns,
            lambda _, entries: add_waiting(entries),
        )


if __name__ == '__main__':
    run_tool(main)
