#!/usr/bin/env python
"""Training step beside the peers: ``python benchmarks/step.py [--models NAME ...] [--device cuda]``.

One batch of uint8 noise lies on the device; a step is a whole iteration of the training loop. See docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.machine import gpu_state, peak_tflops
from harness.options import chosen, compare, parser
from harness.tables import Column, fact, rate, ratio, timing
from harness.task import Settings
from subjects.step import IMPLEMENTATIONS, MMPRETRAIN, MODELS, SLOW, TUNED

from mmselfsup_graft.cli.running import run_tool

DEFAULT_MODELS = ('mae-vit-b', 'mocov3-vit-s', 'lgp-vit-b', 'simmim-vit-b', 'tec-vit-b', 'a2mim-r50')


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    options = parser('Time training steps', steps=1, rounds=5, batch_size=8)
    options.add_argument('--models', nargs='+', metavar='NAME', help=f'of {", ".join(MODELS)}')
    options.add_argument('--precision', choices=['fp32', 'bf16'], default='fp32', help='bf16 is autocast')
    options.add_argument('--peak-tflops', type=float, help='of the GPU in bf16; default: by its name, if known')
    return options.parse_args(argv)


def calls(entry: dict[str, Any]) -> str:
    """ATen calls by phase."""
    counted = entry['facts'].get('calls')
    return ' / '.join(map(str, counted.values())) if counted else ''


def published_flops(entries: Sequence[dict[str, Any]]) -> float | None:
    """FLOPs per image of the algorithm as published: of the slow form, else of what mmpretrain computes."""
    flops = {entry['implementation']: entry['facts'].get('flops_per_image') for entry in entries}
    return flops.get(SLOW) or flops.get(MMPRETRAIN) or flops.get(TUNED)


def add_figures(entries: list[dict[str, Any]], peak: float | None) -> None:
    """Model FLOPs utilization, and what the warm-up took beyond its steps, which is mostly compilation."""
    flops = published_flops(entries)
    for entry in entries:
        if 'seconds' not in entry:
            continue
        facts = entry['facts']
        if 'graphs' in facts:
            facts['compile_s'] = entry['warmup']['wall']
        if peak and flops:
            facts['mfu'] = flops * entry['images_per_second']['median'] / (peak * 1e12)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    models = chosen(args.models or DEFAULT_MODELS, list(MODELS), 'model')
    names = chosen(args.implementations, IMPLEMENTATIONS, 'implementation')
    settings = Settings(args.device, args.precision, args.batch_size, args.threads, args.warmup)
    peak = args.peak_tflops or (peak_tflops(gpu_state().get('name', '')) if args.device == 'cuda' else None)
    columns = [
        timing('CPU ms', 'cpu') if args.device == 'cpu' else timing('GPU ms', 'gpu'),
        timing('wall ms', 'wall'),
        rate(),
        *(ratio(name) for name in (MMPRETRAIN, TUNED, SLOW)),
        fact('GFLOP/img', 'flops_per_image', '.2f', 1e-9),
        Column('calls fwd / bwd / opt', calls),
        fact('host reads', 'host_reads'),
        fact('syncs', 'syncs'),
        fact('MB in use', 'in_use_mb'),
        fact('MB process', 'peak_rss_mb'),
        fact('MB alloc.', 'peak_allocated_mb'),
        fact('MB reserved', 'peak_reserved_mb'),
        fact('MFU', 'mfu', '.1%'),
        fact('compile s', 'compile_s'),
        fact('breaks', 'graph_breaks'),
    ]
    compare(
        args,
        'step',
        models,
        lambda _: names,
        lambda model: MODELS[model].reference,
        settings,
        lambda _: 'cpu' if args.device == 'cpu' else 'wall',
        columns,
        lambda _, entries: add_figures(entries, peak),
    )


if __name__ == '__main__':
    run_tool(main)
