#!/usr/bin/env python
"""Time of data loaders: ``python benchmarks/loader.py [--data FOLDER] [--workers 0 | 1 2 4 8 16]``.

By default one core and 64 JPEGs made of scikit-image's photographs. See docs/benchmarks.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.options import chosen, compare, parser
from harness.tables import Column, rate, ratio, timing
from harness.task import Settings
from subjects.loader import IMPLEMENTATIONS, MMPRETRAIN, PIL, RECIPES, enough_steps
from subjects.photos import photo_folder

from mmselfsup_graft.cli.running import run_tool


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    options = parser('Time data loaders', steps=None, rounds=5, batch_size=16)
    options.add_argument('--recipes', nargs='+', metavar='NAME', help=f'of {", ".join(RECIPES)}')
    options.add_argument('--workers', nargs='+', type=int, default=[0], help='loader processes; one table for each')
    options.add_argument('--data', help='folder of JPEGs, in class folders; default: 64 made of photographs')
    return options.parse_args(argv)


def add_per_image(entries: list[dict[str, Any]]) -> None:
    """Processor time per image: of the loader's processes too."""
    for entry in entries:
        if 'seconds' in entry:
            entry['facts']['cpu_ms_per_image'] = {
                key: 1e3 * value / entry['images'] for key, value in entry['seconds']['cpu'].items()
            }


def per_image(entry: dict[str, Any]) -> str:
    """Median and spread of the processor time per image."""
    value = entry['facts'].get('cpu_ms_per_image')
    return f'{value["median"]:.2f} ({value["low"]:.2f}-{value["high"]:.2f})' if value else ''


def per_core(entry: dict[str, Any]) -> str:
    """Images per second of processor time."""
    value = entry['facts'].get('cpu_ms_per_image')
    return f'{1e3 / value["median"]:.0f}' if value else ''


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    args.steps = enough_steps(args.steps, 4, max(args.workers))
    recipes = chosen(args.recipes, RECIPES, 'recipe')
    names = chosen(args.implementations, IMPLEMENTATIONS, 'implementation')
    columns = [
        Column('CPU ms/img', per_image),
        Column('img/s/core', per_core),
        timing('wall ms/batch', 'wall'),
        rate('img/s by the clock of the ratios', '.0f'),
        ratio(PIL),
        ratio(MMPRETRAIN),
        Column('batch', lambda entry: entry['facts'].get('batch', '')),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        data = photo_folder(args.data, temporary)
        settings = Settings(args.device, 'fp32', args.batch_size, args.threads, args.warmup, data=data)
        compare(
            args,
            'loader',
            [f'{recipe}-{number}' for number in args.workers for recipe in recipes],
            lambda _: names,
            lambda _: (PIL, MMPRETRAIN),
            settings,
            # a loader without worker processes is compared by CPU time, otherwise by images per second
            lambda subject: 'cpu' if subject.endswith('-0') else 'wall',
            columns,
            lambda _, entries: add_per_image(entries),
        )


if __name__ == '__main__':
    run_tool(main)
