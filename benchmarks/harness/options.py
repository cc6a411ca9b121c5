"""Options and main loop of all benchmark scripts: parse, measure every subject, print, write."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.files import write_json
from mmselfsup_graft.utils.suggestions import nearest

from .contest import Contest
from .machine import machine, software
from .summary import summarize
from .tables import Column, markdown_table, text_table
from .task import Settings


def parser(description: str, steps: int | None, rounds: int, batch_size: int) -> argparse.ArgumentParser:
    """The options that all scripts have, with their defaults; without one for the steps the script chooses them."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = options.add_argument
    add('--device', choices=['cpu', 'cuda'], default='cpu')
    add('--implementations', nargs='+', metavar='NAME', help='which to compare; default: all')
    add('--batch-size', type=_positive, default=batch_size, help='images per step')
    add('--rounds', type=_positive, default=rounds, help='blocks of each implementation')
    add('--steps', type=_positive, default=steps, help='steps of a block')
    add('--warmup', type=int, default=1, help='untimed steps before the first round; 30 on a GPU')
    add('--threads', type=_positive, default=1, help='threads of torch and others in each process')
    add('--out', metavar='FILE.json', help='write everything that was measured')
    add('--markdown', action='store_true', help='print the tables as Markdown')
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, got {text}')
    return value


def chosen(given: Sequence[str] | None, known: Sequence[str], what: str) -> list[str]:
    """The requested names, in the order of ``known``; all if none is given.

    Raises:
        ConfigError: For an unknown name.
    """
    for name in given or ():
        if name not in known:
            near = nearest(name, known)
            hint = f' (did you mean {near[0]}?)' if near else ''
            raise ConfigError(f'unknown {what} {name!r}{hint}; choose from {", ".join(known)}')
    return [name for name in known if not given or name in given]


def compare(
    args: argparse.Namespace,
    kind: str,
    subjects: Sequence[str],
    implementations: Callable[[str], Sequence[str]],
    references: Callable[[str], Sequence[str]],
    settings: Settings,
    clock: Callable[[str], str],
    columns: Sequence[Column],
    finish: Callable[[str, list[dict[str, Any]]], None] | None = None,
) -> None:
    """Measure every subject, print its table as soon as it is there, and write all of them.

    Args:
        args: Of :func:`parser`.
        kind: Module of ``harness`` that builds the tasks.
        subjects: One table each.
        implementations: Rows of a subject, in order.
        references: Names that a subject's ratios are taken to.
        settings: Shared settings.
        clock: The clock that a subject's rates and ratios are taken from.
        columns: Of the tables, after the first.
        finish: Adds figures to the rows of a subject before they are printed.
    """
    if args.out:  # checked before the first table
        _check_writable(Path(args.out))
    tables: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        'benchmark': kind,
        'command': ' '.join(sys.argv),
        'machine': machine(settings.device),
        'software': software(),
        'settings': {**settings._asdict(), 'rounds': args.rounds, 'steps': args.steps},
        'tables': tables,
    }
    for subject in subjects:
        rows = Contest(kind, subject, implementations(subject), settings, args.rounds, args.steps, _say).run()
        entries = summarize(rows, references(subject), clock(subject))
        if finish:
            finish(subject, entries)
        tables.append({'subject': subject, 'clock': clock(subject), 'rows': entries})
        draw = markdown_table if args.markdown else text_table
        print(draw(subject, entries, columns), flush=True)
        if args.out:  # after every table, so that an interrupted run keeps its results
            if settings.device == 'cuda':
                result['machine_at_the_end'] = machine(settings.device)
            write_json(Path(args.out), result)


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f'--out {path}: cannot be written ({error.strerror}); give a file in a writable folder'
        ) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
