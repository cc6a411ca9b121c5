"""Spectrum and variance of features over the depth of encoders, several models in one figure."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from mmselfsup_graft.analysis.figures.picture_grid import save_figure
from mmselfsup_graft.errors import DataError

from .measure import LayerSpectrum

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

Models = Mapping[str, Sequence[LayerSpectrum]]

_SHADES = {'attention': '0.88', 'pooling': '#fbe3c4'}


def depth_of_layers(layers: Sequence[LayerSpectrum]) -> np.ndarray:
    """Normalized depth of each layer, from 0 to 1."""
    return np.linspace(0, 1, len(layers))


def _check(models: Models) -> None:
    if not models or not all(models.values()):
        raise DataError('no spectrum to draw')


def draw_spectra(models: Models, target: Path) -> None:
    """Draw the relative log amplitude of every layer over the frequency, one panel per model, color for depth.

    Args:
        models: Name -> layers, lowest first.
        target: PNG to write.

    Raises:
        DataError: If there are no models or values.
    """
    _check(models)
    colors = plt.get_cmap('viridis')
    size = (3.6 * len(models) + 1.2, 3.6)
    figure, axes = plt.subplots(1, len(models), figsize=size, sharey=True, squeeze=False, layout='constrained')
    for axis, (name, layers) in zip(axes[0], models.items()):
        for depth, layer in zip(depth_of_layers(layers), layers):
            axis.plot(layer.frequencies, layer.amplitude, color=colors(depth), linewidth=1.2)
        axis.axhline(0, color='0.6', linewidth=1)
        axis.set(title=name, xlabel='frequency', xlim=(0, 1))
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ['0', 'π/4', 'π/2', '3π/4', 'π'])
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel('relative log amplitude')
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), colors)
    figure.colorbar(scale, ax=axes, label='depth (0 stem, 1 last layer)', pad=0.01)
    save_figure(figure, target, dpi=120)


def draw_over_depth(models: Models, target: Path) -> None:
    """Draw the highest frequency (above) and the variance (below) over normalized depth.

    Models with the same layers share a panel. A layer's share of the depth is shaded, from the layer before to itself,
    where it is an attention or makes the map smaller.

    Args:
        models: Name -> layers, lowest first.
        target: PNG to write.

    Raises:
        DataError: If there are no models or values.
    """
    _check(models)
    groups = _with_equal_layers(models)
    colors = {name: f'C{number}' for number, name in enumerate(models)}
    size = (3.6 * len(groups) + 1.4, 5.6)
    figure, axes = plt.subplots(
        2, len(groups), figsize=size, sharex=True, sharey='row', squeeze=False, layout='constrained'
    )
    for (upper, lower), group in zip(axes.T, groups):
        for name in group:
            layers = models[name]
            line = {'color': colors[name], 'marker': 'o', 'markersize': 3, 'linewidth': 1.2, 'label': name}
            upper.plot(depth_of_layers(layers), [layer.highest for layer in layers], **line)
            lower.plot(depth_of_layers(layers), [layer.variance for layer in layers], **line)
        for axis in (upper, lower):
            _shade(axis, models[group[0]])
            axis.grid(alpha=0.3)
        upper.legend(fontsize=8)
        lower.set(xlabel='depth (0 stem, 1 last layer)', xlim=(-0.02, 1.02))
    axes[0, 0].set_ylabel('log amplitude of the\nhighest frequency')
    axes[1, 0].set_ylabel('variance over space')
    _scale_variance(axes[1, 0], models)
    save_figure(figure, target, dpi=120)


def _scale_variance(axis: Any, models: Models) -> None:
    """A log scale, with ordinary numbers, for variances that differ by more than a factor of 10."""
    variances = np.array([layer.variance for layers in models.values() for layer in layers])
    positive = variances[variances > 0]  # neither 0 nor NaN
    if len(positive) and positive.max() > 10 * positive.min():
        axis.set_yscale('log')
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter('{x:g}')


def _with_equal_layers(models: Models) -> list[list[str]]:
    """Names of models, those with the same layers together, in their order."""
    groups: dict[tuple, list[str]] = {}
    for name, layers in models.items():
        groups.setdefault(tuple((layer.name, layer.kind) for layer in layers), []).append(name)
    return list(groups.values())


def _shade(axis: Any, layers: Sequence[LayerSpectrum]) -> None:
    for kind, low, high in shaded_spans(layers):
        known = axis.get_legend_handles_labels()[1]
        label = {'attention': 'attention', 'pooling': 'smaller map'}[kind]
        axis.axvspan(low, high, color=_SHADES[kind], zorder=0, label=None if label in known else label)


def shaded_spans(layers: Sequence[LayerSpectrum]) -> Iterator[tuple[str, float, float]]:
    """Kind, begin and end in normalized depth of the shaded spans."""
    depths = depth_of_layers(layers)
    for number, layer in enumerate(layers):
        if number and layer.kind in _SHADES:
            yield layer.kind, float(depths[number - 1]), float(depths[number])
