"""Content of a report page as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmselfsup_graft.analysis.pages.shown import Embedding, Image, TrainingRun


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        value: The number; None if missing.
        spread: Standard deviation, if it was measured.
        best: Whether it is the best of its column.
    """

    value: float | None
    spread: float | None = None
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """One encoder.

    Attributes:
        name: Name of the encoder; its rows are adjacent.
        feature: Text for the scored feature; empty if there is only one.
        cells: One per column.
        iterations: Total of all its trainings; None if it was not trained.
        seconds: Likewise.
        cpu_seconds: Likewise, of all threads; None if it was not measured.
    """

    name: str
    feature: str
    cells: tuple[Cell, ...]
    iterations: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Table:
    """Accuracies in per cent.

    Attributes:
        columns: Titles of the accuracies.
        rows: Encoders.
        notes: Notes on the measurement, one or two sentences each.
        comparison: The rows to compare, and the reason.
    """

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    comparison: str = ''


@dataclass(frozen=True)
class Reconstruction:
    """Reconstructions by a masked-image stage.

    Attributes:
        title: Title of the images.
        caption: Explanation.
        rows: Name -> images, equally many in each.
        names: Of the images; empty if they have none.
    """

    title: str
    caption: str
    rows: Mapping[str, Sequence[Image]]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A command for using the result.

    Attributes:
        purpose: Purpose of the command.
        code: Exact lines.
        language: ``bash`` or ``python``.
    """

    purpose: str
    code: str
    language: str = 'bash'


@dataclass(frozen=True)
class ReportPage:
    """All of a page.

    Attributes:
        title: Title.
        summary: One-sentence summary.
        facts: Name -> value: when, where, with which data.
        table: Scores; None if there are no labels.
        no_table: Reason if there is no table.
        runs: Trainings in the order of the recipe.
        embedding: Maps and neighbors; None if there are no images for them.
        no_embedding: Reason if there are no maps.
        reconstructions: May be empty.
        commands: How to use the encoders.
        files: Path below the work directory -> description.
    """

    title: str
    summary: str
    facts: Mapping[str, str]
    runs: Sequence[TrainingRun]
    table: Table | None = None
    no_table: str = ''
    embedding: Embedding | None = None
    no_embedding: str = ''
    reconstructions: Sequence[Reconstruction] = ()
    commands: Sequence[Command] = ()
    files: Mapping[str, str] = field(default_factory=dict)
