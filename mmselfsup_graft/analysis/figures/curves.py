"""Curves of training runs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.utils.files import read_json, read_rows

from .layer_axis import by_depth, is_layer
from .picture_grid import save_figure

_FEW = 5  # points that are marked one by one
_MOST = 1e30  # above any loss, and within the range of an axis


def read_history(work_dir: Path) -> list[dict]:
    """Rows that :class:`HistoryHook` wrote into a work directory.

    Raises:
        DataError: If the file is damaged, or an iteration or loss is not a number; a loss may be NaN.
    """
    path = Path(work_dir) / 'history.jsonl'
    rows = read_rows(path) if path.is_file() else []
    for row in rows:
        loss = row.get('loss', 0.0)
        if not (_is_number(row.get('iter')) and (_is_number(loss) or (isinstance(loss, float) and math.isnan(loss)))):
            raise DataError(
                f'{str(path)!r} is damaged: {repr(row)[:80]} has no number as iter or loss; remove that line'
            )
    return rows


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _MOST


def draw_loss_curves(runs: Mapping[str, Path], target: Path) -> None:
    """Draw the loss over iterations of every run, one panel each (losses of different objectives do not compare).

    Args:
        runs: Name -> work directory.
        target: PNG to write.
    """
    figure, axes = plt.subplots(1, len(runs), figsize=(3.4 * len(runs), 3), squeeze=False, layout='constrained')
    for axis, (name, work_dir) in zip(axes[0], runs.items()):
        rows = [row for row in read_history(work_dir) if 'loss' in row]  # other rows are scores of a hook
        marker = 'o' if len(rows) < _FEW else None  # a line through one point shows nothing
        axis.plot(
            [row['iter'] + 1 for row in rows], [row['loss'] for row in rows], linewidth=1, marker=marker, markersize=4
        )
        axis.set(title=name, xlabel='iteration', ylabel='loss')
        axis.grid(alpha=0.3)
    figure.suptitle('Training loss')
    save_figure(figure, target, dpi=120)


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
        offset = 0.12 * (index - (len(runs) - 1) / 2)  # shifted, as equal rates would hide each other
        places = [all_layers.index(layer) + offset for layer in layers]
        axis.plot(places, list(layers.values()), 'o', label=name, markersize=4)
    axis.set_xticks(range(len(all_layers)), all_layers, rotation=60, fontsize=8)
    axis.set(yscale='log', xlabel='depth', ylabel='peak learning rate', title='Peak learning rate of every layer')
    axis.grid(alpha=0.3)
    axis.legend()
    save_figure(figure, target, dpi=120)


def peak_rates(work_dir: Path) -> dict[str, float]:
    """Peak learning rate by name of the layer, lowest first.

    Raises:
        DataError: If the file is missing or damaged.
    """
    path = work_dir / 'param_groups.json'
    layers = read_json(path, keys=('layers',))['layers']
    fits = isinstance(layers, list) and all(isinstance(each, dict) for each in layers)
    if not fits or not all(is_layer(each.get('name')) and _is_number(each.get('lr')) for each in layers):
        raise DataError(f'{str(path)!r} is damaged: layers must be a list of names and rates; run the training again')
    return {layer['name']: layer['lr'] for layer in layers}
