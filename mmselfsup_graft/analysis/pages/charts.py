"""Curves as SVG text; colors come from the page's style sheet, so that they suit both color schemes."""

import math
from collections.abc import Sequence
from html import escape

from mmselfsup_graft.analysis.figures.layer_axis import by_depth

from .shown import TrainingRun

_MOST_POINTS = 400
_TICKS = 4


def loss_chart(run: TrainingRun, width: int = 280, height: int = 176) -> str:
    """The loss of one training over iterations.

    Args:
        run: The training; it has at least one loss.
        width: Width in units of the chart.
        height: Height in units of the chart.
    """
    pairs = _finite(run.iterations, run.losses)
    if not pairs:
        return _svg(width, height, f'{run.name}: no loss was recorded', [])
    about = f'Loss of {run.name}: {pairs[0][1]:.3g} at first, {pairs[-1][1]:.3g} at iteration {pairs[-1][0]:,}.'
    return _curves([('', pairs)], about, width, height)


def curves_chart(
    name: str,
    series: Sequence[tuple[int, str, Sequence[int], Sequence[float]]],
    width: int = 420,
    height: int = 220,
) -> str:
    """A number of several trainings over iterations, one curve each.

    Args:
        name: What is shown.
        series: Number of the training, which decides its color and mark, its name, iterations and values.
        width: Width in units of the chart.
        height: Height in units of the chart.
    """
    curves = [(f' k{number % 10}', pairs) for number, _, x, y in series if (pairs := _finite(x, y))]
    if not curves:
        return _svg(width, height, f'{name}: nothing was recorded', [])
    about = (
        f'{name}: ' + ', '.join(f'{run} {values[-1]:.3g}' for _, run, _, values in series if len(values)) + ' at last.'
    )
    last = [(number, pairs[-1], run) for number, run, x, y in series if (pairs := _finite(x, y)) and len(series) > 1]
    return _curves(curves if len(series) > 1 else [('', curves[0][1])], about, width, height, last)


def _finite(iterations: Sequence[int], values: Sequence[float]) -> list[tuple[int, float]]:
    return _thinned([(x, y) for x, y in zip(iterations, values) if math.isfinite(y)])


def _curves(
    curves: Sequence[tuple[str, Sequence[tuple[int, float]]]],
    about: str,
    width: int,
    height: int,
    marks: Sequence[tuple[int, tuple[int, float], str]] = (),
) -> str:
    """Curves in one chart: their class and points; marks of series, with their name, at points."""
    values = [y for _, pairs in curves for _, y in pairs]
    left, right, top, bottom = 46, 10, 12, 26
    ticks = nice_ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))
    last = max(1, max(pairs[-1][0] for _, pairs in curves))

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + x / last * (width - left - right)
        return across, height - bottom - (y - low) / ((high - low) or 1) * (height - top - bottom)

    parts = []
    for tick in ticks:
        y = at(0, tick)[1]
        parts.append(f'<line class="gridline" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, f'{tick:g}', 'end'))
    for iteration, anchor in ((0, 'start'), (last, 'end')):
        parts.append(_text(at(iteration, low)[0], height - 8, f'{iteration:,}', anchor))
    parts.append(_text((left + width - right) / 2, height - 8, 'iteration', 'middle'))
    for kind, pairs in curves:
        line = ' '.join(f'{x:.1f},{y:.1f}' for x, y in (at(*pair) for pair in pairs))
        parts.append(f'<polyline class="curve{kind}" points="{line}"/>')
    if not marks:
        x, y = at(*curves[0][1][-1])
        parts.append(f'<circle class="end" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    parts += [mark(number, *at(*point), f'{name}: {point[1]:.4g}') for number, point, name in marks]
    return _svg(width, height, about, parts)


def rates_chart(runs: Sequence[TrainingRun], width: int = 720) -> str:
    """Peak learning rate of every layer of every training: one line of dots per training, on a logarithmic axis.

    Args:
        runs: At least one training, with at least one layer.
        width: Width in units of the chart.
    """
    layers = by_depth(run.rates for run in runs)
    rates = [rate for run in runs for rate in run.rates.values() if rate > 0]
    if not rates:
        return _svg(width, 60, 'No learning rate was recorded.', [])
    powers = range(math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates))) + 1)
    powers = powers if len(powers) > 1 else range(powers[0], powers[0] + 2)
    height, left, right, top, bottom = 250, 56, 12, 12, 40
    step = (width - left - right) / len(layers)

    def at(layer: str, rate: float, series: int) -> tuple[float, float]:
        shift = (series - (len(runs) - 1) / 2) * min(14.0, 0.8 * step / len(runs))  # equal rates stay visible
        share = (math.log10(rate) - powers[0]) / (powers[-1] - powers[0])
        return left + step * (layers.index(layer) + 0.5) + shift, height - bottom - share * (height - top - bottom)

    parts = []
    for power in powers:
        y = height - bottom - (power - powers[0]) / (powers[-1] - powers[0]) * (height - top - bottom)
        parts.append(f'<line class="gridline" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f'1e{power}', 'end'))
    every = max(1, math.ceil(len(layers) / 14))
    for number, layer in enumerate(layers):
        if number % every == 0 or number == len(layers) - 1:
            parts.append(_text(left + step * (number + 0.5), height - 20, layer, 'middle'))
    for series, run in enumerate(runs):
        for layer, rate in run.rates.items():
            if rate > 0:
                parts.append(mark(series, *at(layer, rate, series), f'{run.name}, {layer}: {rate:.3g}'))
            else:
                x = left + step * (layers.index(layer) + 0.5)
                parts.append(_text(x, height - bottom + 4, f'{run.name}: 0', 'middle'))
    about = 'Peak learning rate over depth. ' + ' '.join(
        f'{run.name}: ' + ', '.join(f'{layer} {rate:.2g}' for layer, rate in run.rates.items()) + '.' for run in runs
    )
    return _svg(width, height, about, parts)


def mark(series: int, x: float, y: float, about: str = '') -> str:
    """The mark of a series of dots: both its shape and its color identify it."""
    size = 4.5
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>',
        f'<rect x="{x - size + 0.5:.1f}" y="{y - size + 0.5:.1f}" width="{2 * size - 1}" height="{2 * size - 1}"/>',
        _polygon([(x, y - size - 1), (x + size + 0.5, y + size - 0.5), (x - size - 0.5, y + size - 0.5)]),
        _polygon([(x, y - size - 1), (x + size + 1, y), (x, y + size + 1), (x - size - 1, y)]),
        _polygon([(x, y + size + 1), (x + size + 0.5, y - size + 0.5), (x - size - 0.5, y - size + 0.5)]),
    )
    title = f'<title>{escape(about)}</title>' if about else ''
    hollow = ' hollow' if series >= len(shapes) else ''
    return f'<g class="mark k{series % 10}{hollow}">{title}{shapes[series % len(shapes)]}</g>'


def nice_ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """Round numbers in or around a range, ascending: at least two."""
    span = (high - low) or abs(high) or 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    return [round(step * number, 12) for number in range(first, math.ceil(high / step - 1e-9) + 1)] or [low, high]


def _thinned(pairs: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Every n-th pair and the last one."""
    every = max(1, math.ceil(len(pairs) / _MOST_POINTS))
    return pairs[::every] + ([pairs[-1]] if pairs and (len(pairs) - 1) % every else [])


def _polygon(corners: Sequence[tuple[float, float]]) -> str:
    return '<polygon points="' + ' '.join(f'{x:.1f},{y:.1f}' for x, y in corners) + '"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: int, height: int, about: str, parts: Sequence[str]) -> str:
    inner = ''.join(parts)
    return f'<svg role="img" aria-label="{escape(about)}" viewBox="0 0 {width} {height}">{inner}</svg>'
