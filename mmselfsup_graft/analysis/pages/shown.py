"""What pages show, as plain data: trainings, and images on maps and with their neighbors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Image = np.ndarray  # uint8 [H, W] or [H, W, 3]


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
    """The images that maps and neighbors show.

    Attributes:
        images: May differ in size, as maps show them in squares; pages of recipes have one size.
        labels: [N] class numbers, or None.
        classes: Names of the classes, in the order of the labels.
        total: Number of images they were chosen from.
        names: Of the images; empty if they have none.
        held_out: Whether no training has seen them.
    """

    images: Sequence[Image]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    total: int
    names: Sequence[str] = ()
    held_out: bool = True

    def caption(self, number: int) -> str:
        """Class and name of an image, as far as it has them."""
        known = (self.class_of(number), self.names[number] if self.names else '')
        return ' · '.join(text for text in known if text)

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
