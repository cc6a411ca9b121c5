"""From the blocks of each implementation to medians, spreads and ratios."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

MEASURED = 'measured'


class Spread(NamedTuple):
    """Median, smallest and largest of some values."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summary of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass
class Row:
    """One implementation in one table.

    Attributes:
        implementation: Its name.
        status: ``measured``, ``missing`` (cannot run here) or ``failed``.
        reason: Why it was not measured.
        images: Images per step.
        note: What differs from the others.
        warmup: Seconds of the whole warm-up by clock.
        blocks: Per round, seconds per step by clock (``wall``, ``cpu``, ``gpu``) and other figures per step.
        facts: Counted figures.
    """

    implementation: str
    status: str = MEASURED
    reason: str = ''
    images: int = 1
    note: str = ''
    warmup: dict[str, float] = field(default_factory=dict)
    blocks: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def seconds(self, clock: str) -> list[float]:
        """Seconds per step of every round; empty if it was not measured to the end."""
        return [block[clock] for block in self.blocks] if self.status == MEASURED else []


def speed_ratios(row: Row, reference: Row, clock: str) -> list[float]:
    """Ratio to the reference's images per second in each round; above 1 the row is faster.

    Both were timed one after the other within a round, so a temporary slowdown of the machine cancels.
    """
    pairs = zip(row.seconds(clock), reference.seconds(clock))
    return [row.images / mine / (reference.images / its) for mine, its in pairs]


def summarize(rows: Sequence[Row], references: Sequence[str], clock: str) -> list[dict[str, Any]]:
    """Rows as dicts with ``seconds`` per clock, ``images_per_second`` and ``ratios`` to each reference.

    Args:
        rows: Of one table.
        references: Names of implementations to compare with; those that were not measured give no ratio.
        clock: The clock that ratios and rates are taken from.
    """
    by_name = {row.implementation: row for row in rows if row.seconds(clock)}
    result = []
    for row in rows:
        entry = asdict(row)
        if row.implementation in by_name:
            clocks = row.blocks[0]
            entry['seconds'] = {name: spread([block[name] for block in row.blocks])._asdict() for name in clocks}
            entry['images_per_second'] = spread([row.images / value for value in row.seconds(clock)])._asdict()
            known = [name for name in references if name in by_name]
            per_round = {name: speed_ratios(row, by_name[name], clock) for name in known}
            entry['ratios'] = {n: {**spread(v)._asdict(), 'rounds': v} for n, v in per_round.items()}
        result.append(entry)
    return result
