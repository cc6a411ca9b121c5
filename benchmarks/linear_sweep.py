#!/usr/bin/env python
"""Cost of 70 linear heads compared with one: ``python benchmarks/linear_sweep.py [--out FILE]``.

One epoch of the sweep and one epoch of a single head run in turn, in one process, on (i) features in memory
and (ii) features that a small ViT computes from images, once for all heads. Median and spread over the repetitions.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmselfsup_graft.cli.running import run_tool
from mmselfsup_graft.utils.files import write_json


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Time 70 linear heads against one')
    parser.add_argument('--images', type=int, default=1024, help='training images')
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--width', type=int, default=192, help='of the ViT and its features')
    parser.add_argument('--depth', type=int, default=6, help='blocks of the ViT')
    parser.add_argument('--img-size', type=int, default=32, help='of the images; patches have 8 pixels')
    parser.add_argument('--classes', type=int, default=10)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out', help='JSON file to write')
    return parser.parse_args(argv)


def epochs_of(args: argparse.Namespace) -> dict[str, Callable[[], Iterator[Any]]]:
    """Sources of one epoch of batches: features in memory, and features by forward passes."""
    import numpy as np
    import torch

    from mmselfsup_graft.evaluation import CachedBatches, LinearProtocol, load_backbone
    from mmselfsup_graft.evaluation.protocols.linear import Batch
    from mmselfsup_graft.libraries.scopes import register_all_modules

    register_all_modules()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    rng = np.random.default_rng(0)
    labels = rng.integers(0, args.classes, args.images)
    features = rng.normal(size=(args.images, args.width)).astype(np.float32)
    protocol = LinearProtocol(batch_size=args.batch_size)
    cached = CachedBatches((features, labels), protocol, device)
    arch = dict(embed_dims=args.width, num_layers=args.depth, num_heads=3, feedforward_channels=4 * args.width)
    config = dict(type='SelfSupViT', arch=arch, img_size=args.img_size, patch_size=8)
    vit = load_backbone(config, None).to(device)
    images = torch.randn(args.images, 3, args.img_size, args.img_size, device=device)
    truth = torch.from_numpy(labels).to(device)

    @torch.no_grad()
    def encoded() -> Iterator[Batch]:
        for rows, targets in zip(images.split(args.batch_size), truth.split(args.batch_size)):
            yield Batch(vit(rows)[-1], targets, len(targets))

    return {'cached features': lambda: cached(0), 'shared forward passes': encoded}


def seconds_of(epoch: Callable[[], Iterator[Any]], heads: Any) -> float:
    """Time of one epoch of training."""
    import torch

    started = time.perf_counter()
    for batch in epoch():
        heads.step(batch.features, batch.labels, batch.total, 1.0)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def compare(epoch: Callable[[], Iterator[Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds and spread of the sweep and of its last head alone, run in turn after one round of warming up."""
    import numpy as np
    import torch

    from mmselfsup_graft.evaluation import LinearHeads, LinearProtocol

    rates, decays = (np.array(column) * 0.01 for column in zip(*LinearProtocol().heads()))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    pair = {
        count: LinearHeads(rates[-count:], decays[-count:], args.width, args.classes, device=device)
        for count in (len(rates), 1)
    }
    times: dict[int, list[float]] = {count: [] for count in pair}
    for repeat in range(args.repeats + 1):
        for count, heads in pair.items():
            seconds = seconds_of(epoch, heads)
            times[count] += [seconds] if repeat else []
    many, one = times.values()
    ratio = statistics.median(many) / statistics.median(one)
    return {'heads': len(rates), 'ratio': ratio, 'seconds': {'all': many, 'one': one}}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse(argv)
    import torch

    result: dict[str, Any] = {'settings': vars(args), 'torch': torch.__version__, 'threads': torch.get_num_threads()}
    result['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'CPU'
    print(f'{"one epoch":24}{"70 heads":>20}{"1 head":>20}{"ratio":>8}')
    for name, epoch in epochs_of(args).items():
        result[name] = compare(epoch, args)
        cells = [f'{statistics.median(t):.3f} s ± {statistics.pstdev(t):.3f}' for t in result[name]['seconds'].values()]
        print(f'{name:24}{cells[0]:>20}{cells[1]:>20}{result[name]["ratio"]:>8.2f}', flush=True)
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, result)


if __name__ == '__main__':
    run_tool(main)
