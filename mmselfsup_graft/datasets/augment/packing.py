"""Rows on their way from the worker to the device: one tensor for the numbers of all operations of a view.

A packed view is a mapping of one entry, ``{layout: [numbers, ...]}``. Collate functions keep the key and stack the
tensors, so the layout tells which rows, with which fields, are in the columns of a batch [B, K]. Pinning and worker
processes handle it as any mapping. Fields that are tensors follow the numbers as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .operation import Row, RowT

#: for each row its type, and for each field its number of columns: 0 for a single number, ``None`` for a tensor
Layout = tuple[tuple[type[Row], tuple[int | None, ...]], ...]
Packed = Mapping[Layout, Sequence[torch.Tensor]]


def pack(rows: Sequence[Row]) -> Packed:
    """Return the rows of one image: numbers, float32 (K,), and tensors; an empty mapping for no rows."""
    if not rows:
        return {}
    layout, numbers, tensors = _parted(rows)
    return {layout: [torch.tensor(numbers, dtype=torch.float32), *tensors]}


def pack_batch(samples: Sequence[Sequence[Row]]) -> Packed:
    """Return the rows of B images: what collating :func:`pack` of each gives."""
    if not samples or not samples[0]:
        return {}
    layouts, numbers, tensors = zip(*map(_parted, samples))
    return {layouts[0]: [torch.from_numpy(np.array(numbers, np.float32)), *map(torch.stack, zip(*tensors))]}


def _parted(rows: Sequence[Row]) -> tuple[Layout, list[float], list[torch.Tensor]]:
    layout: list[tuple[type[Row], tuple[int | None, ...]]] = []
    numbers: list[float] = []
    tensors: list[torch.Tensor] = []
    for row in rows:
        columns: list[int | None] = []
        for field in row:
            if isinstance(field, (list, tuple)):
                numbers += field
                columns.append(len(field))
            elif isinstance(field, torch.Tensor):
                tensors.append(field)
                columns.append(None)
            else:
                numbers.append(field)
                columns.append(0)
        layout.append((type(row), tuple(columns)))
    return tuple(layout), numbers, tensors


def unpack(packed: Packed) -> list[Any]:
    """Return the rows of a batch, with fields of shape [B, ...]."""
    rows: list[Any] = []
    for layout, (numbers, *tensors) in packed.items():
        widths = [width for _, columns in layout for width in columns if width is not None]
        parts, whole = iter(numbers.split([max(width, 1) for width in widths], 1)), iter(tensors)
        for kind, columns in layout:
            fields = (
                next(whole) if width is None else next(parts) if width else next(parts)[:, 0] for width in columns
            )
            rows.append(kind(*fields))
    return rows


def of_images(row: RowT, images: Sequence[int]) -> RowT:
    """Return the row of a batch for some of its images."""
    return type(row)(*(field[images] for field in row))  # type: ignore[call-arg]
