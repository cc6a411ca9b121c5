"""A table and a page of training runs."""

from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.analysis.pages.charts import curves_chart, mark
from mmselfsup_graft.analysis.pages.document import as_is, duration, render, write_html

from .measure import RunLog

_TEMPLATES = Path(__file__).parent / 'templates'
_FIRST = ('loss', 'lr')
_COLUMNS = ('run', 'iteration', 'done', 'iterations / s', 'trained', 'time left', 'loss', 'lr')


def runs_table(runs: Sequence[RunLog]) -> list[tuple[str, ...]]:
    """Rows for :data:`_COLUMNS`, the header first."""
    return [_COLUMNS, *(_row(run) for run in runs)]


def _row(run: RunLog) -> tuple[str, ...]:
    loss, rate = run.value('loss'), run.value('lr')
    of = '' if run.last is None else f' / {run.last:,}'
    left = '-' if run.left is None else 'finished' if run.iteration == run.last else duration(run.left)
    return (
        run.name,
        f'{run.iteration:,}{of}',
        '-' if run.share is None else f'{100 * run.share:.0f} %',
        '-' if run.per_second is None else f'{run.per_second:.3g}',
        '-' if run.seconds is None else duration(run.seconds),
        left,
        '-' if loss is None else f'{loss:.4g}',
        '-' if rate is None else f'{rate:.3g}',
    )


def table_lines(runs: Sequence[RunLog]) -> str:
    """The table as text, with the notes of the runs below it."""
    rows = runs_table(runs)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ['  '.join(f'{cell:{width}}' for cell, width in zip(row, widths)).rstrip() for row in rows]
    return '\n'.join([*lines, *(f'{run.name}: {note}' for run in runs for note in run.notes)])


def write_logs(runs: Sequence[RunLog], target: Path) -> None:
    """Write a page: the table, and a chart per logged number with all runs in it.

    Args:
        runs: At least one.
        target: HTML file to write.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.curves))
    names.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    charts = []
    for name in names:
        series = [(number, run.name, *run.curves[name]) for number, run in enumerate(runs) if name in run.curves]
        charts.append((name, as_is(curves_chart(name, series))))
    page = render(
        'logs.html',
        _TEMPLATES,
        title='Training runs' if len(runs) > 1 else f'Training {runs[0].name}',
        lead='Progress, speed and curves.',
        facts={},
        table=runs_table(runs),
        notes=[(run.name, note) for run in runs for note in run.notes],
        charts=charts,
        marks=[(run.name, as_is(mark(number, 8, 8))) for number, run in enumerate(runs)] if len(runs) > 1 else [],
    )
    write_html(page, target)
