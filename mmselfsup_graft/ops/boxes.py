"""Operators on boxes: suppression and overlaps.

Boxes are given by corners (x1, y1, x2, y2). ``offset`` is added to every width and height: 1 where corners are pixels
that belong to the box, 0 otherwise.
"""

import numpy as np
import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision

from .precision import at_least_float32

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
    """Greedy suppression of boxes that overlap a better one by more than the threshold.

    Args:
        boxes: [N, 4].
        scores: [N]; equal ones are taken in the order in which ``sort`` leaves them, as by the compiled operator.
        iou_threshold: Rounded to the type of the boxes, as the compiled operator does.
        offset: 0 or 1.

    Returns:
        [K], indices of the kept boxes, best first.
    """
    boxes, scores = at_least_float32(boxes, scores)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    order = scores.sort(descending=True).indices
    ranks = torch.arange(len(order), 0, -1, dtype=boxes.dtype, device=boxes.device)
    return order[torch.ops.torchvision.nms(boxes[order], ranks, threshold)]


def softnms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    dets: torch.Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> torch.Tensor:
    """Suppression that lowers the scores of overlapping boxes (Bodla et al., Soft-NMS, 2017), on the CPU.

    mmcv moves the tensors to the CPU before it calls this. The search is sequential: N boxes take N passes over the
    remaining ones, in numpy.

    Args:
        boxes: [N, 4].
        scores: [N].
        dets: [N, 5], is filled with the K boxes that are kept and their lowered scores.
        iou_threshold: Overlap from which the naive and the linear method act.
        sigma: Width of the Gaussian method.
        min_score: Boxes whose score falls below are dropped.
        method: 0 drops, 1 multiplies by one minus the overlap, 2 by a Gaussian of the overlap.
        offset: 0 or 1.

    Returns:
        [K], indices into ``boxes`` in the order of ``dets``.
    """
    table = torch.cat(at_least_float32(boxes, scores[:, None]), dim=1).numpy()  # [N, 5]
    order = np.arange(len(table))
    kept = 0
    while kept < len(table):
        scores_left = table[kept:, 4]
        # no score is greater than NaN, that of a box without area on an equal one
        best = kept if np.isnan(scores_left[0]) else kept + int(np.nanargmax(scores_left))
        for array in (table, order):
            array[[kept, best]] = array[[best, kept]]
        rest = table[kept + 1 :]
        overlap = _overlap_with(table[kept], rest, offset)
        rest[:, 4] *= _decay(overlap, iou_threshold, sigma, method)
        stay = np.append(np.ones(kept + 1, dtype=bool), ~(rest[:, 4] < min_score))
        moved = _filled_from_the_end(stay)
        table, order = table[moved], order[moved]
        kept += 1
    dets[:kept] = torch.from_numpy(table).to(dets.dtype)
    return torch.from_numpy(order)


def _overlap_with(box: np.ndarray, boxes: np.ndarray, offset: int) -> np.ndarray:
    """Intersection over union of one box with others, [N]; NaN where neither has an area."""
    size = np.minimum(box[2:4], boxes[:, 2:4]) - np.maximum(box[:2], boxes[:, :2]) + offset  # [N, 2]
    shared = np.maximum(size, 0).prod(axis=1)
    area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    with np.errstate(divide='ignore', invalid='ignore'):
        return shared / (area + areas - shared)


def _decay(overlap: np.ndarray, threshold: float, sigma: float, method: int) -> np.ndarray:
    if method == _GAUSSIAN:
        exponent = -(overlap * overlap) / overlap.dtype.type(sigma)
        return np.exp(exponent, dtype=np.float64).astype(overlap.dtype)  # rounded once, as in C
    factor = 1 - overlap if method == _LINEAR else np.zeros_like(overlap)
    return np.where(overlap >= overlap.dtype.type(threshold), factor, overlap.dtype.type(1))


def _filled_from_the_end(stay: np.ndarray) -> np.ndarray:
    """Indices of the remaining boxes, with dropped ones replaced from the end: the order decides between ties."""
    count = int(stay.sum())
    places = np.arange(count)
    places[~stay[:count]] = (count + np.flatnonzero(stay[count:]))[::-1]
    return places


def nms_match(dets: torch.Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the better box that suppresses them, on the CPU, to which mmcv moves them.

    Args:
        dets: [N, 5], boxes and scores.
        iou_threshold: Overlap from which a box is suppressed.

    Returns:
        A list for every box that is kept: its index, then those of what it suppresses, by score.
    """
    (table,) = at_least_float32(dets)
    left = table[:, 4].sort(descending=True).indices.numpy()
    rows = table.numpy()
    groups = []
    while len(left):
        overlap = _overlap_with(rows[left[0]], rows[left[1:]], offset=0)
        taken = overlap >= overlap.dtype.type(iou_threshold)
        groups.append([int(left[0]), *left[1:][taken].tolist()])
        left = left[1:][~taken]
    return groups


def bbox_overlaps(
    bboxes1: torch.Tensor, bboxes2: torch.Tensor, ious: torch.Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Intersection over union (mode 0), or over the area of the first box (mode 1).

    Args:
        bboxes1: [M, 4].
        bboxes2: [N, 4].
        ious: [M, N], or [M] for pairs; is filled.
        mode: 0 or 1.
        aligned: Boxes are compared in pairs.
        offset: 0 or 1.
    """
    first, second = at_least_float32(bboxes1, bboxes2)
    if not aligned:
        first = first[:, None]  # [M, 1, 4]
    size = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2]) + offset
    shared = size.clamp(min=0).prod(dim=-1)
    area = (first[..., 2:] - first[..., :2] + offset).prod(dim=-1)
    if mode == 0:
        area = area + (second[..., 2:] - second[..., :2] + offset).prod(dim=-1) - shared
    ious.copy_(shared / area)
