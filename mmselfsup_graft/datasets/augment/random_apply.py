"""All of several transforms or none of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmselfsup_graft.datasets.transforms import build_pipeline
from mmselfsup_graft.registry import TRANSFORMS

from .operation import Operation, Row, Size, checked_probability, happens


@TRANSFORMS.register_module()
class RandomApply(BaseTransform):
    """Run a list of transforms with probability ``p``: torchvision's ``RandomApply`` for transform configs.

    Args:
        transforms: Transform configs or callables on a results dict.
        p: Probability that all of them are run, in order; otherwise none is.

    Raises:
        ConfigError: ``p`` is outside [0, 1].
    """

    def __init__(self, transforms: Sequence[dict[str, Any] | Callable], p: float = 0.5) -> None:
        self.transforms = build_pipeline(transforms)
        self.p = checked_probability('RandomApply', p)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Run all transforms or none."""
        if happens(self.p):
            for transform in self.transforms:
                results = transform(results)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(p={self.p}, transforms={self.transforms})'


class AllOrNone(Operation):
    """Our :class:`RandomApply`: all of its operations or none. It sends the rows of its operations, none of its own.

    Args:
        transform: The transform this operation stands for.
        channels: Of the images.
        operations: What it runs.
    """

    stands_for = RandomApply

    def __init__(self, transform: RandomApply, channels: int, operations: Sequence[Operation]) -> None:
        super().__init__(transform, channels)
        self.p, self.operations = transform.p, tuple(operations)
        self.deferrable = all(operation.deferrable for operation in self.operations)

    def draw(self, height: int, width: int) -> list[Any] | None:
        """Draw whether to run the operations, and what each of them does."""
        return [each.draw(height, width) for each in self.operations] if happens(self.p) else None

    def apply(self, image: np.ndarray, drawn: list[Any]) -> np.ndarray:
        """Run the operations."""
        for operation, each in zip(self.operations, drawn):
            if each is not None:
                image = operation.apply(image, each)
        return image

    def rows(self, drawn: list[Any] | None, size: Size) -> list[Row]:
        """The rows of all operations."""
        each = [None] * len(self.operations) if drawn is None else drawn
        return [row for operation, one in zip(self.operations, each) for row in operation.rows(one, size)]
