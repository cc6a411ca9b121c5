"""What an operation of augmentation is: a draw, a row of named numbers, a form for arrays and one for batches.

An operation draws first and computes later, in the worker (array form) or on the device that trains (batched form). It
draws from torch's global CPU generator by the calls of the PIL transform it stands for, in their order: for one state
of the generator both do the same to an image, up to the arithmetic of the kernels. What was drawn is a row, a
``NamedTuple``. Both forms read it by the names of its fields, and it can travel with a batch between the two, see
:mod:`mmselfsup_graft.datasets.augment.packing`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from mmselfsup_graft.errors import ConfigError

#: value of a field: a number, a list of numbers or a tensor, drawn for one image; a tensor [B, ...] in a batch
Numbers = Any
Size = tuple[int, int]

#: what was drawn for one image, or for each of a batch; always a ``NamedTuple``
Row = tuple[Numbers, ...]
RowT = TypeVar('RowT', bound=Row)

_scratch = torch.empty(1)


def uniform_tensor(low: float, high: float) -> torch.Tensor:
    """Draw ``torch.empty(1).uniform_(low, high)``, float32 [1], into one tensor, which the next draw overwrites."""
    return _scratch.uniform_(low, high)


def uniform(low: float, high: float) -> float:
    """Draw a number as ``torch.empty(1).uniform_(low, high)`` does, without a new tensor, which costs as much."""
    return uniform_tensor(low, high).item()


def checked_probability(owner: str, p: float) -> float:
    """Return ``p``.

    Raises:
        ConfigError: It is outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ConfigError(f'{owner}: p is {p!r}, expected a probability in [0, 1]')
    return float(p)


def happens(p: float) -> bool:
    """Draw one number, also for p = 1, so that a change of ``p`` moves no other draw (as in torchvision)."""
    return torch.rand(1).item() <= p


class DeferrableRow(Protocol):
    """A row of an operation that has a batched form.

    Fields that hold for the whole batch, not for an image of it, are named in an attribute ``of_all``.
    """

    def groups(self) -> Iterable['Group']:
        """Return what to do to which images of a batch; called on the host, with fields of shape [B, ...]."""


class Group(NamedTuple):
    """Some images of a batch and what is done to them.

    Attributes:
        function: Takes the images, uint8 [N, C, H, W], and the arguments; returns uint8 of the same shape.
        images: int64 [N], their numbers in the batch.
        arguments: Tensors [N, ...].
    """

    function: Callable[..., torch.Tensor]
    images: torch.Tensor
    arguments: tuple[torch.Tensor, ...]


def group(function: Callable[..., torch.Tensor], chosen: torch.Tensor, *arguments: torch.Tensor) -> Group:
    """Make a :class:`Group` of those of B images that are chosen, bool [B]; the arguments [B, ...] are those of all."""
    images = chosen.nonzero().flatten()
    some = len(images) < len(chosen)
    return Group(function, images, tuple(each[images] for each in arguments) if some else arguments)


class Operation:
    """One transform of images, uint8 (H, W, 3) or (H, W).

    To add an operation, write a module like its neighbors here and put the class into ``OPERATIONS``.

    Args:
        transform: The PIL transform this operation stands for.
        channels: Of the images, 3 or 1.

    Raises:
        ConfigError: An option of the transform has no fast form.
    """

    #: type of the PIL transform
    stands_for: ClassVar[type]
    #: has a batched form, so it can be left to the device that trains; such an operation keeps the shape
    deferrable = True

    def __init__(self, transform: Any, channels: int) -> None:
        self.channels = channels

    def draw(self, height: int, width: int) -> Any:
        """Draw what to do to an image of this size: a row, or ``None`` to leave it as it is."""
        raise NotImplementedError

    def apply(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        """Return the changed image; it may share memory with ``image`` or with what the next call returns.

        Args:
            image: It is left as it is.
            drawn: What :meth:`draw` gave, not ``None``.
        """
        raise NotImplementedError

    def idle(self, size: Size) -> Any:
        """Return the row that leaves an image of this height and width as it is."""
        raise NotImplementedError

    def rows(self, drawn: Any, size: Size) -> Sequence[Row]:
        """Return the rows to send, with fields of a length that depends on the size alone.

        Args:
            drawn: What :meth:`draw` gave, ``None`` included.
            size: Height and width of the image.
        """
        return [self.idle(size) if drawn is None else drawn]

    def size_after(self, size: Size) -> Size:
        """Height and width of the result for an image of this height and width."""
        return size
