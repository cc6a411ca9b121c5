"""The same recipe with several seeds: mean and spread per row, and tests of claims."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import read_json, read_rows

_CONFIDENCE = 0.95
_HIGHEST = 1e6  # of a score in %


@dataclass(frozen=True)
class SeedTable:
    """Scores of every row and column over seeds.

    Attributes:
        rows: Names, in the order of the tables.
        columns: Names: ``1 label``, ``60 labels``, ``k-NN``, ``linear``, ``logistic``; or ``fine-tuned`` alone.
        values: [seeds, rows, columns] accuracies in per cent; NaN where a table lacks one.
    """

    rows: list[str]
    columns: list[str]
    values: np.ndarray

    def of(self, row: str, column: str) -> np.ndarray:
        """Values [seeds] of one cell.

        Raises:
            ConfigError: If there is no such row or column.
        """
        for name, known in ((row, self.rows), (column, self.columns)):
            if name not in known:
                raise ConfigError(f'{name!r} is not in the tables; they have {", ".join(known)}')
        return self.values[:, self.rows.index(row), self.columns.index(column)]


@dataclass(frozen=True)
class Verdict:
    """Whether one row is above another in one column.

    Attributes:
        claim: The claim.
        difference: Mean over seeds of the paired differences, in points.
        interval: Confidence interval of that mean (Student's t over seeds).
        verdict: ``holds`` if the interval lies above 0, ``does not hold`` if below, else ``undecided``.
    """

    claim: str
    difference: float
    interval: tuple[float, float]
    verdict: str


def read_tables(folders: Sequence[Path]) -> SeedTable:
    """Read one folder per seed with the ``table.json`` of a recipe, or with runs of ``tools/finetune.py``.

    Every sub-folder with such a run is a row.

    Raises:
        DataError: If a folder has neither, a file is unreadable, or the rows differ.
    """
    tables = [_read(Path(folder)) for folder in folders]
    rows, columns = list(tables[0]), list(next(iter(tables[0].values())))
    for folder, table in zip(folders, tables):
        if list(table) != rows or any(list(cells) != columns for cells in table.values()):
            raise DataError(f'{folder} has other rows or columns than {folders[0]}: {", ".join(table)}')
    values = [[[table[row][column] for column in columns] for row in rows] for table in tables]
    return SeedTable(rows, columns, np.array(values))


def _read(folder: Path) -> dict[str, dict[str, float]]:
    tuned = sorted(folder.glob('*/results.jsonl'))
    if tuned and not (folder / 'table.json').is_file():
        return {path.parent.name: {'fine-tuned': _tuned_accuracy(path)} for path in tuned}
    return _read_table(folder / 'table.json')


def _tuned_accuracy(path: Path) -> float:
    """Accuracy of the last fine-tuning run."""
    try:
        return _number([row['result']['accuracy'] for row in read_rows(path) if row['protocol'] == 'finetune'][-1])
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f'{path} holds no fine-tuning ({type(error).__name__}: {error})') from error


def _read_table(path: Path) -> dict[str, dict[str, float]]:
    try:
        content = read_json(path, 'score the recipe again', ('rows', 'protocol'))
        return {name: _cells(row, content['protocol']) for name, row in content['rows'].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path} is not a table of a recipe ({type(error).__name__}: {error})') from error


def _cells(row: dict[str, Any], protocols: dict[str, Any]) -> dict[str, float]:
    cells = {}
    for shots in protocols.get('few_shot', {}).get('shots', ()):
        scores = row['few_shot'].get(str(shots), {'mean': float('nan')})
        cells[f'{shots} label{"s" if shots > 1 else ""}'] = _number(scores['mean'])
    for name, title in (('logistic', 'logistic'), ('knn', 'k-NN'), ('linear', 'linear')):
        if name in protocols:
            cells[title] = _number(row[name]['accuracy'])
    return cells


def _number(value: Any) -> float:
    """A score; raises TypeError for text and everything else that JSON holds. NaN: not scored."""
    if type(value) not in (int, float) or abs(value) > _HIGHEST:
        raise TypeError(f'{repr(value)[:60]} is not a score in %')
    return float(value)


def seeds_text(table: SeedTable) -> str:
    """Mean and standard deviation over seeds, as text."""
    lines = [f'accuracy in %, mean ± standard deviation over {len(table.values)} seeds']
    first = max(len(row) for row in table.rows) + 1
    lines.append(' ' * first + ''.join(f'{column:>14}' for column in table.columns))
    mean, spread = table.values.mean(axis=0), _spread(table.values)
    for i, row in enumerate(table.rows):
        cells = [f'{mean[i, j]:.1f} ± {spread[i, j]:.1f}' for j in range(len(table.columns))]
        lines.append(f'{row:{first}}' + ''.join(f'{cell:>14}' for cell in cells))
    return '\n'.join(lines)


def _spread(values: np.ndarray) -> np.ndarray:
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def evaluate_claim(table: SeedTable, claim: str) -> Verdict:
    """Test a claim ``ROW > OTHER @ COLUMN`` on the paired differences over seeds.

    Raises:
        ConfigError: If it is malformed, names an unknown row or column, or there are fewer than two seeds.
    """
    from scipy import stats  # comes with scikit-learn

    match = re.fullmatch(r'\s*(.+?)\s+>\s+(.+?)\s+@\s+(.+?)\s*', claim)
    if not match:
        raise ConfigError(f'claim {claim!r}: write "ROW > OTHER ROW @ COLUMN", e.g. "LGP > CL @ 1 label"')
    if len(table.values) < 2:
        raise ConfigError('a claim needs the tables of two seeds or more')
    differences = table.of(match[1], match[3]) - table.of(match[2], match[3])
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))
    reach = error * float(stats.t.ppf(0.5 + _CONFIDENCE / 2, len(differences) - 1))
    low, high = mean - reach, mean + reach
    verdict = 'holds' if low > 0 else 'does not hold' if high < 0 else 'undecided'
    return Verdict(claim.strip(), mean, (low, high), verdict)


def verdicts_text(verdicts: Sequence[Verdict]) -> str:
    """One line per claim."""
    width = max(len(each.claim) for each in verdicts)
    lines = []
    for each in verdicts:
        low, high = each.interval
        lines.append(f'{each.claim:{width}}  {each.difference:+6.2f}  [{low:+.2f}, {high:+.2f}]  {each.verdict}')
    return '\n'.join(lines)
