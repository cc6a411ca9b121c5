"""Curves of training runs."""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from .depth import by_depth


def read_history(work_dir: Path) -> list[dict]:
    """Rows that :class:`HistoryHook` wrote into a work directory."""
    path = Path(work_dir) / 'history.jsonl'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def draw_loss_curves(runs: Mapping[str, Path], target: Path) -> None:
    """Draw the loss over iterations of every run, one panel each (losses of different objectives do not compare).

    Args:
        runs: Name -> work directory.
        target: PNG to write.
    """
    figure, axes = plt.subplots(1, len(runs), figsize=(3.4 * len(runs), 3), squeeze=False, layout='constrained')
    for axis, (name, work_dir) in zip(axes[0], runs.items()):
        rows = [row for row in read_history(work_dir) if 'loss' in row]  # the rest are scores of a hook
        axis.plot([row['iter'] + 1 for row in rows], [row['loss'] for row in rows], linewidth=1)
        axis.set(title=name, xlabel='iteration', ylabel='loss')
        axis.grid(alpha=0.3)
    figure.savefig(target, dpi=120)
    plt.close(figure)


def draw_lr_over_depth(runs: Mapping[str, Path], target: Path) -> None:
    """Draw the peak learning rate of every layer of every run.

    Args:
        runs: Name -> work directory with the ``param_groups.json`` of :class:`HistoryHook`.
        target: PNG to write.
    """
    rates = {name: peak_rates(Path(work_dir)) for name, work_dir in runs.items()}
    all_layers = by_depth(rates.values())
    figure, axis = plt.subplots(figsize=(6, 3.2), layout='constrained')
    for index, (name, layers) in enumerate(rates.items()):
        offset = 0.12 * (index - (len(runs) - 1) / 2)  # side by side: equal rates would hide each other
        places = [all_layers.index(layer) + offset for layer in layers]
        axis.plot(places, list(layers.values()), 'o', label=name, markersize=4)
    axis.set_xticks(range(len(all_layers)), all_layers, rotation=60, fontsize=8)
    axis.set(yscale='log', xlabel='depth', ylabel='peak learning rate')
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(target, dpi=120)
    plt.close(figure)


def peak_rates(work_dir: Path) -> dict[str, float]:
    """Peak learning rate by name of the layer, lowest first."""
    summary = json.loads((work_dir / 'param_groups.json').read_text())
    return {layer['name']: layer['lr'] for layer in summary['layers']}
