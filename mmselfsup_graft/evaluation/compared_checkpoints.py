"""Comparison of several checkpoints: arguments of the command line, and tables of measurements."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.utils.files import write_text

RANDOM = 'random'


@dataclass(frozen=True)
class Compared:
    """One of the compared models.

    Attributes:
        name: Name in figures and tables.
        cfg: Its config.
        checkpoint: Its file; None for fresh weights.
    """

    name: str
    cfg: Config
    checkpoint: Path | None


def read_compared(config: str, entries: Sequence[str], options: dict[str, Any] | None = None) -> list[Compared]:
    """Read ``NAME=CHECKPOINT``, or ``NAME=CONFIG.py:CHECKPOINT`` for a model with another config.

    ``NAME=`` may be left out: the name is then that of the file and its folder. ``random`` instead of a file means
    fresh weights.

    Args:
        config: Config of all entries without their own.
        entries: As on the command line.
        options: Overrides for every config.

    Raises:
        ConfigError: If a name is repeated or empty, or a config cannot be read.
        CheckpointError: If a file does not exist; checked before the first measurement.
    """
    configs: dict[str, Config] = {}
    found: list[Compared] = []
    for entry in entries:
        name, equals, place = ('', '', entry) if Path(entry).is_file() else entry.partition('=')
        place = place if equals else entry
        own, colon, file = place.rpartition('.py:')
        path, file = (f'{own}.py', file) if colon else (config, place)
        name = name if equals else _name_of(file)
        if not name or not file:
            raise ConfigError(f'{entry!r}: write NAME=CHECKPOINT, NAME=CONFIG.py:CHECKPOINT or NAME={RANDOM}')
        if name in [each.name for each in found]:
            raise ConfigError(f'two checkpoints are called {name!r}; give each its own name, NAME=CHECKPOINT')
        file = resolve_zoo(file)
        if file != RANDOM and not Path(file).is_file():
            raise CheckpointError(f'checkpoint {file} does not exist (from {entry!r}); fresh weights: NAME={RANDOM}')
        if path not in configs:
            configs[path] = load_config(path, options)
        found.append(Compared(name, configs[path], None if file == RANDOM else Path(file)))
    return found


def _name_of(file: str) -> str:
    path = Path(file)
    return '/'.join([part for part in (path.parent.name,) if part] + [path.stem])


def measuring_device(name: str | None) -> torch.device:
    """The device of this name; None takes a GPU if there is one.

    Raises:
        ConfigError: If the name is wrong or the device is not available.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {name!r} cannot be used here: {str(error).splitlines()[0]}') from error
    return device


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file with a header, atomically."""
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
