"""Batches that are put together at once rather than sample by sample."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import default_collate
from mmpretrain.structures import DataSample

from mmselfsup_graft.registry import FUNCTIONS


class LazySamples:
    """The ``data_samples`` of a batch: a list of ``DataSample`` that is made when somebody looks into it.

    Objectives without labels never look, and one such object takes as long as an image of a few pixels. It is not a
    ``Sequence``, so mmengine's data preprocessor hands it on without a look.

    Args:
        count: Number of samples B.
        labels: int64 [B], or ``None`` if there are none.
    """

    def __init__(self, count: int, labels: np.ndarray | None = None) -> None:
        self.count, self.labels = count, labels
        self._made: list[DataSample] | None = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[DataSample]:
        return iter(self._samples())

    def __getitem__(self, index: int) -> DataSample:
        return self._samples()[index]

    def _samples(self) -> list[DataSample]:
        if self._made is None:
            self._made = [DataSample() for _ in range(self.count)]
            for sample, label in zip(self._made, () if self.labels is None else self.labels.tolist()):
                sample.set_gt_label(label)
        return self._made


class Gathered:
    """The samples of a batch that exists already; each is made when it is asked for.

    :func:`collate` takes the batch; any other collate function finds the samples that it expects.

    Args:
        batch: ``inputs``, ``data_samples`` and ``augment`` or not, collated, see
            :class:`mmselfsup_graft.datasets.fast.FastPipeline`.
    """

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch['data_samples'])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f'{type(self).__name__}: index {index} is out of range for {len(self)} samples')
        return _taken(self.batch, index)


def _taken(values: Any, index: int) -> Any:
    """The part of one sample in a batch of nested lists and dicts."""
    if isinstance(values, dict):
        return {key: _taken(value, index) for key, value in values.items()}
    return [_taken(value, index) for value in values] if isinstance(values, list) else values[index]


@FUNCTIONS.register_module()
def collate(samples: Sequence[Any] | Gathered) -> Any:
    """Collate as mmengine's ``default_collate`` does; a batch that was gathered as one is taken as it is.

    Args:
        samples: A list of samples, or what the ``__getitems__`` of a data set gave.
    """
    return samples.batch if isinstance(samples, Gathered) else default_collate(samples)
