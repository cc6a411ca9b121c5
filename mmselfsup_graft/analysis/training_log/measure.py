"""History and progress of training runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmselfsup_graft.analysis.figures.curves import read_history
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.utils.files import read_json

_NOT_CURVES = ('iter', 'epoch')


@dataclass(frozen=True)
class RunLog:
    """What the work directory of a run says about it.

    Attributes:
        name: Name in tables and charts.
        curves: Name of a number -> its iterations and values, in order; what is not finite is left out. ``lr`` is the
            largest of all parameter groups.
        iteration: Iterations done.
        last: Iterations of the whole run; None if unknown.
        seconds: Trained so far, over all parts of a resumed run; None if unknown.
        left: Seconds that the rest takes at the mean speed of its last part; None if unknown.
        notes: Notes of the run.
    """

    name: str
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    iteration: int
    last: int | None = None
    seconds: float | None = None
    left: float | None = None
    notes: Sequence[str] = ()

    @property
    def per_second(self) -> float | None:
        """Iterations per second, on average; None if unknown."""
        return self.iteration / self.seconds if self.seconds else None

    @property
    def share(self) -> float | None:
        """Share of the run that is done."""
        return self.iteration / self.last if self.last else None

    def value(self, name: str) -> float | None:
        """The last value of a curve."""
        return self.curves[name][1][-1] if name in self.curves else None


def find_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Name -> work directory of the runs in some folders: each is one, or holds some (as that of a recipe does).

    Raises:
        DataError: If a folder is missing, or neither it nor one in it is a work directory.
    """
    found: list[Path] = []
    for folder in folders:
        inside = sorted(path.parent for path in folder.glob('*/history.jsonl')) if folder.is_dir() else []
        own = [folder] if (folder / 'history.jsonl').is_file() else []
        if not own and not inside:
            what = 'holds no history.jsonl, nor does a folder in it' if folder.is_dir() else 'is not a folder'
            raise DataError(f'{folder} {what}; give the work directory of a run')
        found += own or inside
    return dict(zip(_names(found), found))


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    whole = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, whole)) + 1):
        names = ['/'.join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f'{number}: {path}' for number, path in enumerate(paths, 1)]


def read_run(name: str, folder: Path) -> RunLog:
    """The log of a run, finished or not.

    Raises:
        DataError: If a file is damaged.
    """
    rows = read_history(folder)
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for key, value in row.items():
            value = _largest(value) if key == 'lr' else value
            if key not in _NOT_CURVES and _is_finite(value):
                steps, values = curves.setdefault(key, ([], []))
                steps.append(int(row['iter']) + 1)
                values.append(float(value))
    progress = _progress(folder)
    done = int(progress.get('iter') or (rows[-1]['iter'] + 1 if rows else 0))
    notes = [str(note) for note in progress.get('notes') or []]
    last = progress.get('max_iters')
    return RunLog(
        name, curves, done, int(last) if last else None, progress.get('seconds'), progress.get('seconds_left'), notes
    )


def _progress(folder: Path) -> dict[str, Any]:
    path = folder / 'progress.json'
    if not path.is_file():
        return {}
    found = read_json(path, keys=('iter', 'max_iters', 'seconds'))
    for key in ('iter', 'max_iters', 'seconds', 'seconds_left'):
        if found.get(key) is not None and not (_is_finite(found[key]) and found[key] >= 0):
            raise DataError(f'{str(path)!r} is damaged: {key} is {str(found[key])[:40]!r}; remove it')
    return found


def _largest(value: Any) -> Any:
    """The largest of the rates of several parameter groups; another value as it is."""
    if isinstance(value, list) and value and all(map(_is_finite, value)):
        return max(value)
    return value


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
