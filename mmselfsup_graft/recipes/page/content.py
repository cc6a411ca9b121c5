"""What a report page shows: plain data, gathered elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Image = np.ndarray  # uint8 [H, W] or [H, W, 3]


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        value: None where there is none.
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
        name: Of the encoder; rows of one encoder follow each other.
        feature: Which of its features was scored, in words; empty where there is one only.
        cells: One per column.
        iterations: Of all trainings it took, None for what was not trained.
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
        notes: How it was measured; one sentence or two each.
        comparison: Which of the rows are to be compared, and why.
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
        iterations: Of the losses.
        losses: As many.
        rates: Layer -> peak learning rate, lowest layer first.
        seconds: That it took.
    """

    name: str
    iterations: Sequence[int]
    losses: Sequence[float]
    rates: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Sample:
    """The held-out images that maps and neighbors show.

    Attributes:
        images: All of one size.
        labels: [N] class numbers, or None.
        classes: Names of the classes, in the order of the labels.
        total: How many held-out images there are.
    """

    images: Sequence[Image]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    total: int

    def class_of(self, number: int) -> str:
        """Name of the class of an image; empty if there are no labels."""
        return '' if self.labels is None else self.classes[int(self.labels[number])]


@dataclass(frozen=True)
class Representation:
    """The sample as one encoder sees it.

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
        method: How the maps were laid out.
        queries: [Q] images whose neighbors are shown.
        representations: In the order of the page.
        possible: The highest agreement that there could be, as small classes have fewer images than neighbors are
            counted; None without labels.
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
    """Images that a masked-image stage fills in.

    Attributes:
        title: What the images are.
        caption: What there is to know about them.
        rows: Name -> images, as many in each.
        names: Of the images; empty if they have none.
    """

    title: str
    caption: str
    rows: Mapping[str, Sequence[Image]]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """Something to do with the result.

    Attributes:
        purpose: What for.
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
        title: What was done.
        summary: The same in a sentence.
        facts: Name -> value: when, where, with which data.
        table: Scores; None if there are no labels.
        no_table: Why there is none.
        runs: Trainings in the order of the recipe.
        embedding: Maps and neighbors; None if there are no images for them.
        no_embedding: Why there are none.
        reconstructions: May be empty.
        commands: How to use the encoders.
        files: Path below the work directory -> what it is.
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
