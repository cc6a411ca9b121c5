"""Apply the rows that travel with a batch, an operation to the images that it is meant for.

A view's rows are a mapping ``'<number>.<operation>' -> [B, K]``, in the order of the operations; the columns are those
that :mod:`mmselfsup_graft.datasets.fast.steps` writes. They are read on the host, so which image takes part in what is
known without asking the device.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch

from mmselfsup_graft.errors import ConfigError

from . import operations
from .operations import Operation

_JITTER = (operations.brightness, operations.contrast, operations.saturation, operations.hue)


class Group(NamedTuple):
    """Some images of a batch and what is done to them, with one number for each."""

    operation: Operation
    images: list[int]
    numbers: list[float]


def _those(operation: Operation, numbers: list[float], without: float) -> Iterator[Group]:
    chosen = [image for image, number in enumerate(numbers) if number != without]
    yield Group(operation, chosen, [numbers[image] for image in chosen])


def _color_jitter(rows: torch.Tensor) -> Iterator[Group]:
    """Every image has its own order: one group for each place in the order and each operation."""
    orders, factors = rows[:, :4].long().tolist(), rows[:, 4:].tolist()
    for place in range(4):
        for number, operation in enumerate(_JITTER):
            images = [image for image, order in enumerate(orders) if order[place] == number]
            yield Group(operation, images, [factors[image][place] for image in images])


def _blur(rows: torch.Tensor) -> Iterator[Group]:
    half = operations.blur_half_width(float(rows[:, 1].max()))
    yield from _those(partial(operations.blur, half=half), rows[:, 0].tolist(), without=0.0)


_GROUPS: dict[str, Callable[[torch.Tensor], Iterator[Group]]] = {
    'flip': lambda rows: _those(operations.flip, rows[:, 0].tolist(), without=0.0),
    'color_jitter': _color_jitter,
    'grayscale': lambda rows: _those(operations.grayscale, rows[:, 0].tolist(), without=0.0),
    'solarize': lambda rows: _those(operations.solarize, rows[:, 0].tolist(), without=256.0),
    'blur': _blur,
}


def augment_batch(images: torch.Tensor, rows: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the augmented images; the host never waits for the device.

    Args:
        images: uint8 [B, C, H, W], on any device; left as they are.
        rows: Operation -> [B, K], float32 on the host.

    Raises:
        ConfigError: An operation is unknown, or needs kornia and there is none.
    """
    groups = [group for key, values in rows.items() for group in _groups(key, values) if group.images]
    if not groups:
        return images
    places = _sent(torch.tensor([image for group in groups for image in group.images]), images.device)
    numbers = _sent(torch.tensor([number for group in groups for number in group.numbers]), images.device)
    sizes = [len(group.images) for group in groups]
    owned = False
    for group, place, number in zip(groups, places.split(sizes), numbers.split(sizes)):
        if len(place) == len(images):
            images, owned = group.operation(images, number), True
        else:
            if not owned:
                images, owned = images.clone(), True
            images.index_copy_(0, place, group.operation(images.index_select(0, place), number))
    return images


def _groups(key: str, rows: torch.Tensor) -> Iterator[Group]:
    name = key.partition('.')[2]
    if name not in _GROUPS:
        raise ConfigError(f'the batch asks for the unknown operation {name!r}; known are {", ".join(_GROUPS)}')
    return _GROUPS[name](rows)


def _sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to the device; from pinned memory the host does not wait for that."""
    return (values.pin_memory() if device.type == 'cuda' else values).to(device, non_blocking=True)
