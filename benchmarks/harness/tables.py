"""Tables of a benchmark as text for a terminal and as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Entry = dict[str, Any]


class Column(NamedTuple):
    """A column: its title, and the text of one row; empty where there is no figure."""

    title: str
    text: Callable[[Entry], str]


def fact(title: str, key: str, form: str = '.0f', scale: float = 1.0) -> Column:
    """Column of a counted figure."""

    def text(entry: Entry) -> str:
        value = entry['facts'].get(key)
        return '' if value is None else format(value * scale, form)

    return Column(title, text)


def timing(title: str, clock: str, form: str = '.1f', scale: float = 1e3) -> Column:
    """Column of a clock, per step, in milliseconds unless scaled: median and, in brackets, smallest to largest."""

    def text(entry: Entry) -> str:
        value = entry.get('seconds', {}).get(clock)
        return '' if value is None else _spread(value, form, scale)

    return Column(title, text)


def rate(title: str = 'img/s', form: str = '.1f') -> Column:
    """Column of images per second."""
    return Column(title, lambda entry: _median(entry.get('images_per_second'), form))


def ratio(reference: str) -> Column:
    """Column of the speed as a multiple of the reference's: median of the rounds and their spread."""
    return Column(f'x {reference}', lambda entry: _spread(entry.get('ratios', {}).get(reference), '.2f', 1.0))


def _median(value: dict[str, float] | None, form: str) -> str:
    return '' if value is None else format(value['median'], form)


def _spread(value: dict[str, Any] | None, form: str, scale: float) -> str:
    if value is None:
        return ''
    median, low, high = (format(value[key] * scale, form) for key in ('median', 'low', 'high'))
    return f'{median} ({low}-{high})'


def _cells(entries: Sequence[Entry], columns: Sequence[Column]) -> list[list[str]]:
    """The title row, then one per measured entry; columns that are empty throughout are left out."""
    measured = [entry for entry in entries if entry['status'] == 'measured']
    lines = [[entry['implementation'], *(column.text(entry) for column in columns)] for entry in measured]
    titles = ['', *(column.title for column in columns)]
    used = [index for index in range(len(titles)) if not index or any(line[index] for line in lines)]
    return [[line[index] for index in used] for line in [titles, *lines]]


def _remarks(entries: Sequence[Entry]) -> list[str]:
    """One line per note, and per row that was not measured."""
    notes = [f'{entry["implementation"]}: {entry["note"]}' for entry in entries if entry['note']]
    return notes + [
        f'{entry["implementation"]}: {entry["status"]}: {entry["reason"]}'
        for entry in entries
        if entry['status'] != 'measured'
    ]


def text_table(title: str, entries: Sequence[Entry], columns: Sequence[Column]) -> str:
    """Aligned columns under a title, then notes and what is missing."""
    cells = _cells(entries, columns)
    widths = [max(len(line[index]) for line in cells) for index in range(len(cells[0]))]
    lines = [
        '  '.join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
        for line in cells
    ]
    return '\n'.join(['', title, *(line.rstrip() for line in lines), *(f'  {each}' for each in _remarks(entries))])


def markdown_table(title: str, entries: Sequence[Entry], columns: Sequence[Column]) -> str:
    """The same as a Markdown table and a list."""
    cells = _cells(entries, columns)
    cells[0][0] = title
    rule = ['---', *(['---:'] * (len(cells[0]) - 1))]
    lines = [f'| {" | ".join(line)} |' for line in [cells[0], rule, *cells[1:]]]
    remarks = [f'- {each}' for each in _remarks(entries)]
    return '\n'.join(['', *lines, *([''] if remarks else []), *remarks])
