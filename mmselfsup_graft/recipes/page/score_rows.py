"""The table of a page, from the scores of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmselfsup_graft.analysis.pages.document import duration
from mmselfsup_graft.evaluation.score_table import FEATURE_NAMES

from .content import Cell, Table, TableRow


def page_table(result: Mapping[str, Any], comparison: str = '') -> Table:
    """The scores with the best of each column marked.

    Args:
        result: Result of :func:`mmselfsup_graft.recipes.report.compare`.
        comparison: Text on the rows to compare; the measured training times are added.
    """
    columns, scored = _columns(result['protocol']), result['rows']
    several = len(features_of(scored)) < sum('feature' in row for row in scored.values())
    rows = [
        TableRow(
            row.get('encoder', name),
            FEATURE_NAMES[row['feature']] if several and 'feature' in row else '',
            tuple(_cell(row, key) for key in columns.values()),
            row.get('iterations'),
            row.get('train_seconds'),
            row.get('train_cpu_seconds'),
        )
        for name, row in scored.items()
    ]
    texts = (comparison, measured_times(rows) if comparison else '')
    return Table(tuple(columns), tuple(_mark_best(rows)), tuple(_notes(result)), ' '.join(filter(None, texts)))


def measured_times(rows: Sequence[TableRow]) -> str:
    """A sentence with the known training times of the encoders; empty if none is known."""
    times = {row.name: _time(row.seconds, row.cpu_seconds) for row in rows if row.seconds is not None}
    return f'Measured: {"; ".join(f"{name} {time}" for name, time in times.items())}.' if times else ''


def _time(seconds: float, cpu_seconds: float | None) -> str:
    cpu = '' if cpu_seconds is None else f' ({cpu_seconds:.0f} CPU s)'
    return f'{duration(seconds)}{cpu}'


def better_features(result: Mapping[str, Any]) -> dict[str, str]:
    """Encoder -> its scored feature with the best score in the first column."""
    first = next(iter(_columns(result['protocol']).values()))
    found = {}
    for encoder, rows in features_of(result['rows']).items():
        found[encoder] = max(rows, key=lambda feature: _cell(rows[feature], first).value or 0.0)
    return found


def features_of(rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Encoder -> feature -> row, for rows with a named feature."""
    found: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        if 'feature' in row:
            found.setdefault(row.get('encoder', name), {})[row['feature']] = row
    return found


def _columns(protocol: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """Title -> protocol and number of labels."""
    found: dict[str, tuple[str, int | None]] = {}
    for name, settings in protocol.items():
        if name == 'few_shot':
            found |= {f'{n} label{"s" if n > 1 else ""}': (name, n) for n in settings['shots']}
        elif name == 'knn':
            title = f'{settings["k"][0]}-NN' if settings['selection'] == 'first' else 'k-NN'
            found[title] = (name, None)
        else:
            found[name] = (name, None)
    return found


def _cell(row: Mapping[str, Any], key: tuple[str, int | None]) -> Cell:
    name, shots = key
    if shots is None:
        return Cell(row[name]['accuracy'])
    scores = row[name].get(shots)
    return Cell(None) if scores is None else Cell(scores['mean'], scores['std'])


def _mark_best(rows: Sequence[TableRow]) -> list[TableRow]:
    """Mark the best values as printed, so that equal numbers are marked equally."""
    columns = list(zip(*(row.cells for row in rows), strict=True))
    best = [max((round(c.value, 1) for c in column if c.value is not None), default=None) for column in columns]
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=cell.value is not None and round(cell.value, 1) == top)
                for cell, top in zip(row.cells, best, strict=True)
            ),
        )
        for row in rows
    ]


def _notes(result: Mapping[str, Any]) -> list[str]:
    protocol, notes = result['protocol'], []
    if 'few_shot' in protocol:
        draws = protocol['few_shot']['draws']
        notes.append(
            'n labels: logistic regression on the features of n labeled training images per class, scored on all '
            f'{result["images"]["test"]:,} held-out images; mean ± standard deviation over {draws} draws of the labels.'
        )
        shots = protocol['few_shot']['shots']
        if any(len(row['few_shot']) < len(shots) for row in result['rows'].values()):
            notes.append('-: the smallest class has fewer training images than that.')
    if 'knn' in protocol:
        notes.append('k-NN: vote of the nearest training images, all of them labeled.')
    for name, settings in protocol.items():
        if settings.get('selection') == 'test':
            notes.append(f'{name}: the best setting is chosen on the held-out images themselves, as in the papers.')
    for side, count in result['left_out'].items():
        if count:
            notes.append(f'{count:,} {side} images could not be read and are left out.')
    notes += [f'{name} is not scored: {why}.' for name, why in result.get('not_scored', {}).items()]
    notes.append(
        'Training: time and iterations with all stages that a row builds on; the time depends on what else ran.'
    )
    return notes
