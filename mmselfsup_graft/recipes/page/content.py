"""Content of a report page as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Image = np.ndarray  # uint8 [H, W] or [H, W, 3]


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
class TrainingRun:
    """One training.

    Attributes:
        name: As in the table, or that of the stage.
        iterations: Iterations of the losses.
        losses: One per iteration.
        rates: Layer -> peak learning rate, lowest layer first.
        seconds: Duration.
    """

    name: str
    iterations: Sequence[int]
    losses: Sequence[float]
    rates: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Sample:
    """The test images that maps and neighbors show.

    Attributes:
        images: All of one size.
        labels: [N] class numbers, or None.
        classes: Names of the classes, in the order of the labels.
        total: Number of test images.
        held_out: Whether no training has seen them.
    """

    images: Sequence[Image]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    total: int
    held_out: bool = True

    def class_of(self, number: int) -> str:
        """Name of the class of an image; empty if there are no labels."""
        return '' if self.labels is None else self.classes[int(self.labels[number])]


@dataclass(frozen=True)
class Representation:
    """The sample in the feature space of one encoder.

    Attributes:
        name: Of the encoder.
        feature: Which of its features, in words; may be empty.
        points: [N, 2] place of each image on the map.
        neighbors: [Q, K] nearest images of each query, nearest first.
        agreement: Share of same-class images among the K nearest of all images, in [0, 1]; None without labels.
    """

    name: str
    feature: str
    points: np.ndarray
    neighbors: np.ndarray
    agreement: float | None


@dataclass(frozen=True)
class Embedding:
    """Several representations of one sample.

    Attributes:
        sample: The images.
        method: Layout method of the maps.
        queries: [Q] images whose neighbors are shown.
        representations: In the order of the page.
        possible: The highest possible agreement, as small classes have fewer images than counted
            neighbors; None without labels.
        chosen_by_score: Whether an encoder with several features is shown by the one with the best score in the table.
        diverged: Encoders that are not shown, because their features hold NaN or infinity.
    """

    sample: Sample
    method: str
    queries: np.ndarray
    representations: tuple[Representation, ...]
    possible: float | None = None
    chosen_by_score: bool = False
    diverged: tuple[str, ...] = ()


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
