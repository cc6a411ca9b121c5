"""Seeded, class-balanced parts of a data set: a held-out set for selection, a small labeled set for fine-tuning."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmselfsup_graft.errors import ConfigError, DataError


@dataclass(frozen=True)
class Part:
    """A seeded share of every class, or the remaining images.

    Attributes:
        share: Share of the images of each class, in (0, 1), rounded; at least one image is on each side.
        seed: Of the draw.
        rest: Take the images that are not in the share.
    """

    share: float
    seed: int = 0
    rest: bool = False


def parse_parts(value: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> list[Part]:
    """Turn a config dict, or several to be applied in order, into parts.

    Raises:
        ConfigError: For unknown keys, a missing share or one outside (0, 1).
    """
    entries = [value] if isinstance(value, Mapping) else list(value or ())
    try:
        parts = [Part(**entry) for entry in entries]
    except TypeError as error:
        raise ConfigError(f'part takes dict(share=..., seed=0, rest=False), got {value!r}') from error
    wrong = next((part for part in parts if not 0 < part.share < 1), None)
    if wrong is not None:
        raise ConfigError(f'part: share is {wrong.share!r}, expected a number between 0 and 1')
    return parts


def take_parts(samples: list[dict], parts: Sequence[Part], owner: str) -> list[dict]:
    """Return the samples that are left after each part in order.

    Raises:
        DataError: A sample has no label, or every class has a single image.
    """
    for part in parts:
        if any('gt_label' not in sample for sample in samples):
            raise DataError(f'{owner}: part=... balances the classes and needs labels; there are none')
        drawn = held_out([sample['gt_label'] for sample in samples], part.share, part.seed)
        samples = [sample for sample, inside in zip(samples, drawn, strict=True) if inside != part.rest]
    return samples


def shuffled_classes(labels: np.ndarray, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every class with its samples in a random order, from which splits take the first ones.

    The order depends on the seed, the label and the samples of the class alone, so splits of one seed are nested.

    Args:
        labels: [N].
        seed: 0 .. 2**32 - 1.
    """
    for label in np.unique(labels):
        random = np.random.RandomState([seed, int(label)])  # its stream is frozen for all versions of numpy
        yield int(label), random.permutation(np.flatnonzero(labels == label))


def held_out(labels: Sequence[int], share: float, seed: int = 0) -> np.ndarray:
    """Return which of the N samples belong to a fixed random share of their class, bool of shape (N,).

    At least one image of each class is on each side; a class with a single image is not split.

    Raises:
        DataError: Every class has a single image, so that none can be held out.
    """
    values, is_drawn = np.asarray(labels), np.zeros(len(labels), dtype=bool)
    for _, members in shuffled_classes(values, seed):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        is_drawn[members[:count]] = True
    if not is_drawn.any():
        raise DataError(
            f'no class has two images or more ({len(values)} images), so none can be held out; '
            'read them without labels (with_label=False) or use all of them for training'
        )
    return is_drawn
