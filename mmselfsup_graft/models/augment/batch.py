"""Apply the rows that travel with a batch, an operation to the images that it is meant for.

A view's rows are a mapping ``'<number>.<operation>' -> [B, K]``, in the order of the operations; the columns are those
that :mod:`mmselfsup_graft.datasets.fast.steps` writes. They are read on the host, so which image takes part in what is
known without asking the device.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from mmselfsup_graft.errors import ConfigError

from . import operations
from .operations import Operation

_JITTER = (operations.brightness, operations.contrast, operations.saturation, operations.hue)


class Group(NamedTuple):
    """Some images of a batch and what is done to them, with one number or row of numbers for each."""

    operation: Operation
    images: torch.Tensor
    numbers: torch.Tensor


def _group(operation: Operation, chosen: torch.Tensor, numbers: torch.Tensor) -> Group:
    """Take part those of B images that are chosen [B]; the numbers [B] or [B, K] are those of all."""
    images = chosen.nonzero().flatten()
    return Group(operation, images, numbers if len(images) == len(numbers) else numbers[images])


def _color_jitter(rows: torch.Tensor) -> Iterator[Group]:
    """Every image has its own order: one group for each place in the order and each operation."""
    for order, factors in zip(rows[:, :4].unbind(1), rows[:, 4:].unbind(1)):
        for number in order.unique().int().tolist():
            if number >= 0:
                yield _group(_JITTER[number], order == number, factors)


def _blur(rows: torch.Tensor) -> Iterator[Group]:
    half = operations.blur_half_width(float(rows[:, 1].max()))
    yield _group(partial(operations.blur, half=half), rows[:, 0] != 0, rows[:, 0])


def _affine(rows: torch.Tensor) -> Iterator[Group]:
    """Matrix, interpolation, which is that of all, and levels; no image comes from a matrix of zeros."""
    numbers = torch.cat([rows[:, :6], rows[:, 7:]], 1)
    yield _group(partial(operations.affine, bilinear=bool(rows[0, 6])), rows[:, :6].any(1), numbers)


_GROUPS: dict[str, Callable[[torch.Tensor], Iterable[Group]]] = {
    'flip': lambda rows: [_group(operations.flip, rows[:, 0] != 0, rows[:, 0])],
    'affine': _affine,
    'color_jitter': _color_jitter,
    'grayscale': lambda rows: [_group(operations.grayscale, rows[:, 0] != 0, rows[:, 0])],
    'solarize': lambda rows: [_group(operations.solarize, rows[:, 0] != 256, rows[:, 0])],
    'blur': _blur,
    'noise': lambda rows: [_group(operations.noise, rows[:, 0].isfinite(), rows)],
}


def augment_batch(images: torch.Tensor, rows: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the augmented images; the host never waits for the device.

    Args:
        images: uint8 [B, C, H, W], on any device; left as they are.
        rows: Operation -> [B, K], float32 on the host.

    Raises:
        ConfigError: An operation is unknown, or needs kornia and there is none.
    """
    groups = [group for key, values in rows.items() for group in _groups(key, values) if len(group.images)]
    if not groups:
        return images
    places = _sent([group.images for group in groups], images.device)
    numbers = _sent([group.numbers for group in groups], images.device)
    owned = False
    for group, place, number in zip(groups, places, numbers):
        if len(place) == len(images):
            images, owned = group.operation(images, number), True
        else:
            if not owned:
                images, owned = images.clone(), True
            images.index_copy_(0, place, group.operation(images.index_select(0, place), number))
    return images


def _groups(key: str, rows: torch.Tensor) -> Iterable[Group]:
    name = key.partition('.')[2]
    if name not in _GROUPS:
        raise ConfigError(f'the batch asks for the unknown operation {name!r}; known are {", ".join(_GROUPS)}')
    return _GROUPS[name](rows)


def _sent(values: Sequence[torch.Tensor], device: torch.device) -> Sequence[torch.Tensor]:
    """Copy to the device all at once; from pinned memory the host does not wait for that."""
    if device.type == 'cpu':
        return values
    together = torch.cat([each.flatten() for each in values])
    together = (together.pin_memory() if device.type == 'cuda' else together).to(device, non_blocking=True)
    parts = together.split([each.numel() for each in values])
    return [part.view(each.shape) for part, each in zip(parts, values)]
