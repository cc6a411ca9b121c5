"""Skipped files of a data set: counted by reason, logged once, an error if there are too many."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mmengine.logging import print_log

from mmselfsup_graft.errors import ConfigError, DataError

#: share of the files or lines that may be left out before it is an error
MOST = 0.05
_NAMED = 3
_SAID: set[str] = set()


class LeftOut:
    """Counts of what was left out, with the first names of each reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}
        self._expected: set[str] = set()

    @classmethod
    def of(
        cls, counts: Mapping[str, int], names: Mapping[str, Sequence[str]], is_expected: Callable[[str], bool]
    ) -> 'LeftOut':
        """A counter from the results of :meth:`counts` and :meth:`names`."""
        tally = cls()
        for reason, count in counts.items():
            tally.add(reason, '', count, is_expected(reason))
            tally._names[reason] = list(names.get(reason, ()))[:_NAMED]
        return tally

    def add(self, reason: str, name: str = '', count: int = 1, expected: bool = False) -> None:
        """Count a skipped file.

        Args:
            reason: Reason in one or two words: ``.heic``, ``missing``.
            name: Of the file or line.
            count: How many.
            expected: Report it, but do not count it towards the limit: hidden files, files that the user excludes.
        """
        self._counts[reason] += count
        names = self._names.setdefault(reason, [])
        if name and len(names) < _NAMED:
            names.append(name)
        if expected:
            self._expected.add(reason)

    def update(self, other: 'LeftOut') -> None:
        """Add the counts of another counter."""
        for reason, count in other._counts.items():
            self.add(reason, '', count, reason in other._expected)
            names = self._names[reason]
            names += other._names[reason][: _NAMED - len(names)]

    def counts(self) -> dict[str, int]:
        """Reason -> how many, the largest first."""
        return dict(self._counts.most_common())

    def names(self) -> dict[str, list[str]]:
        """Reason -> names of the first."""
        return {reason: list(names) for reason, names in self._names.items()}

    @property
    def unexpected(self) -> int:
        """How many count towards the limit."""
        return sum(count for reason, count in self._counts.items() if reason not in self._expected)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def text(self) -> str:
        """With the first names: ``2 ignored: .heic 2 (a.heic, b.heic)``; empty if nothing was left out."""
        if not len(self):
            return ''
        parts = []
        for reason, count in self.counts().items():
            names = ', '.join(self._names[reason]) + (', …' if count > len(self._names[reason]) else '')
            parts.append(f'{reason} {count}' + (f' ({names})' if self._names[reason] else ''))
        return f'{len(self)} ignored: {"; ".join(parts)}'

    def short(self) -> str:
        """Without names: ``2 files ignored (.heic)``; empty if nothing was left out."""
        reasons = ', '.join(self.counts())
        return f'{len(self):,} file{"s" if len(self) > 1 else ""} ignored ({reasons})' if len(self) else ''

    def check(self, found: int, most: float, owner: str) -> None:
        """Log what was left out, once per process; raise an error if it is too much.

        Args:
            found: Number of files that were not left out.
            most: Share of all that may be left out.
            owner: For messages.

        Raises:
            DataError: More was left out.
        """
        total = found + self.unexpected
        if self.unexpected and self.unexpected > most * total:
            raise DataError(
                f'{owner}: {self.unexpected} of {total} would be left out, more than {100 * most:g} %. {self.text()}. '
                'Convert, rename or remove them; or allow it: max_left_out=1 of the data set (--cfg-options '
                'train_dataloader.dataset.max_left_out=1), or --max-left-out 1 of recipes, the quick start and '
                'tools/dataset_tools'
            )
        if len(self):
            log_once(f'{owner}: {self.text()}', logging.WARNING if self.unexpected else logging.INFO)


def log_once(text: str, level: int = logging.WARNING) -> None:
    """Write a line to the log, once per process."""
    if text not in _SAID:
        _SAID.add(text)
        print_log(text, logger='current', level=level)


def check_share(value: float, owner: str) -> float:
    """Return the share that may be left out.

    Raises:
        ConfigError: It is not a number between 0 and 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f'{owner}: max_left_out is {value!r}, expected a share between 0 and 1')
    return float(value)
