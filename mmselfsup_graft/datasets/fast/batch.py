"""Apply the rows that travel with a batch, an operation to the images that it is meant for.

The rows are read on the host, so which image takes part in what is known without asking the device.
"""

from collections.abc import Sequence
from itertools import groupby, islice
from typing import Any

import torch

from mmselfsup_graft.datasets.augment import DeferrableRow


def augment_batch(images: torch.Tensor, rows: Sequence[DeferrableRow]) -> torch.Tensor:
    """Return the augmented images; the host never waits for the device.

    Args:
        images: uint8 [B, C, H, W], on any device; left as they are.
        rows: One for each operation, in their order, with fields [B, ...], float32 on the host.

    Raises:
        ConfigError: An operation needs kornia and it is not installed.
    """
    groups = [group for row in rows for group in row.groups() if len(group.images)]
    if not groups:
        return images
    places = _sent([group.images for group in groups], images.device)
    numbers = iter(_sent([each for group in groups for each in group.arguments], images.device))
    owned = False
    for group, place in zip(groups, places):
        arguments = islice(numbers, len(group.arguments))
        if len(place) == len(images):
            images, owned = group.function(images, *arguments), True
        else:
            if not owned:
                images, owned = images.clone(), True
            images.index_copy_(0, place, group.function(images.index_select(0, place), *arguments))
    return images


def augment_views(views: Sequence[torch.Tensor], rows: Sequence[Sequence[Any]]) -> list[torch.Tensor]:
    """Augment every view as :func:`augment_batch` does.

    Consecutive views of one shape with the same operations, as crops of one size are, are one batch: fewer calls.

    Args:
        views: uint8 [B, C, H, W] each.
        rows: For every view its rows.
    """
    results: list[torch.Tensor] = []
    for _, run in groupby(zip(views, rows), key=lambda pair: _alike(*pair)):
        images, drawn = zip(*run)
        if len(images) == 1:
            results.append(augment_batch(images[0], drawn[0]))
            continue
        joined = [type(same[0])(*map(torch.cat, zip(*same))) for same in zip(*drawn)]
        results += augment_batch(torch.cat(images), joined).chunk(len(images))
    return results


def _alike(images: torch.Tensor, rows: Sequence[Any]) -> list[Any]:
    """What is equal for views that can be one batch: shape, operations, and the numbers that hold for a whole batch."""
    constants = [(name, float(getattr(row, name)[0])) for row in rows for name in getattr(row, 'of_all', ())]
    return [images.shape, [(type(row), [field.shape for field in row]) for row in rows], constants]


def _sent(values: Sequence[torch.Tensor], device: torch.device) -> Sequence[torch.Tensor]:
    """Copy to the device all at once; from pinned memory the host does not wait for that."""
    if device.type == 'cpu' or not values:
        return values
    together = torch.cat([each.flatten() for each in values])
    together = (together.pin_memory() if device.type == 'cuda' else together).to(device, non_blocking=True)
    parts = together.split([each.numel() for each in values])
    return [part.view(each.shape) for part, each in zip(parts, values)]
