"""Images larger than a model's input: reconstructed in overlapping windows under one mask."""

import itertools
import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F

_WINDOWS_AT_ONCE = 64


class Reconstructor(Protocol):
    """A model that reconstructs hidden patches, such as :class:`mmselfsup_graft.models.MAE`.

    Attributes:
        mask_patch: Side in pixels of the square patches that are hidden or visible.
        mask_ratio: Share of patches that is hidden.
    """

    mask_patch: int
    mask_ratio: float

    def reconstruct(
        self, inputs: torch.Tensor, *, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict hidden patches.

        Args:
            inputs: [B, C, H, W] normalized images.
            mask: [B, h, w] on the grid of patches, 1 = hidden; None draws it.

        Returns:
            Prediction [B, C, H, W] and mask [B, 1, H, W].
        """


@torch.no_grad()
def reconstruct_stitched(
    model: Reconstructor, inputs: torch.Tensor, window: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reconstruct images larger than the model's input.

    There is one mask per image, composed of the model's masks for adjacent windows. Every window, wherever it
    is, uses its part of that mask. Windows start a quarter of their side apart, and their predictions are averaged
    with :func:`window_weight`, so that there are no visible seams.

    Args:
        model: Model that reconstructs one window.
        inputs: [B, C, H, W] normalized images. A side that is smaller than the window, or not whole patches, is
            padded with the last pixels, and the padding is removed.
        window: Height and width of the model's input in pixels, whole patches.

    Returns:
        Prediction [B, C, H, W] and mask [B, 1, H, W], 1 where hidden.
    """
    patch, size = model.mask_patch, inputs.shape[-2:]
    height, width = (max(side, math.ceil(each / patch) * patch) for each, side in zip(size, window))
    inputs = F.pad(inputs, (0, width - size[1], 0, height - size[0]), mode='replicate')
    mask = draw_image_mask(model, inputs, window)  # [B, H, W]
    weight = window_weight(window).to(inputs)  # [window]
    total, covered = torch.zeros_like(inputs), torch.zeros_like(inputs[0, 0])
    corners = list(
        itertools.product(*(window_starts(each, side, patch) for each, side in zip((height, width), window)))
    )
    at_once = max(1, _WINDOWS_AT_ONCE // len(inputs))
    for first in range(0, len(corners), at_once):
        places = [_place(corner, window) for corner in corners[first : first + at_once]]
        windows = torch.cat([inputs[place] for place in places])  # [N * B, C, window]
        hidden = torch.cat([mask[place][..., ::patch, ::patch] for place in places])  # [N * B, h, w]
        predictions = model.reconstruct(windows, mask=hidden)[0].to(inputs).split(len(inputs))
        for place, prediction in zip(places, predictions, strict=True):
            total[place] += weight * prediction
            covered[place] += weight
    whole = ..., slice(size[0]), slice(size[1])
    return (total / covered)[whole], mask[:, None][whole]


def _place(corner: tuple[int, ...], window: tuple[int, int]) -> tuple[Any, ...]:
    """Index of a window in the last two dimensions."""
    return ..., *(slice(start, start + side) for start, side in zip(corner, window))


def draw_image_mask(model: Reconstructor, inputs: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Mask of whole images, composed of the model's own masks for the windows that tile them.

    Args:
        model: Draws with torch's generators, as in training.
        inputs: [B, C, H, W], at least as large as a window.
        window: Height and width of the model's input.

    Returns:
        [B, H, W], 1 where hidden; every tile that is not cut at the border hides the model's share.
    """
    rows, columns = (math.ceil(size / side) for size, side in zip(inputs.shape[-2:], window))
    tile = inputs[..., : window[0], : window[1]]  # one tile for all: masks do not depend on the image
    total, at_once = rows * columns, max(1, _WINDOWS_AT_ONCE // len(inputs))
    counts = [min(at_once, total - first) for first in range(0, total, at_once)]
    drawn = torch.cat([model.reconstruct(tile.repeat(count, 1, 1, 1))[1].float() for count in counts])
    # [rows * columns * B, 1, window]
    mask = drawn.reshape(rows, columns, -1, *window).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return mask[:, : inputs.shape[2], : inputs.shape[3]]


def window_starts(size: int, window: int, patch: int) -> list[int]:
    """Starts of windows along one side: a quarter of a window apart, rounded to whole patches, and one at the end.

    Args:
        size: Pixels to cover, whole patches and at least a window.
        window: Pixels of a window.
        patch: Pixels of a patch; all starts are multiples.
    """
    stride = max(1, window // patch // 4) * patch
    return sorted({*range(0, size - window, stride), size - window})


def window_weight(window: tuple[int, int]) -> torch.Tensor:
    """Weight of a window's pixels in the average: a Hann window in either direction, positive everywhere.

    ``w(y, x) = sin^2(pi (y + 1/2) / H) sin^2(pi (x + 1/2) / W)``

    Args:
        window: Height H and width W.

    Returns:
        float64 of shape [H, W].
    """
    rows, columns = (
        torch.sin(math.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side) ** 2 for side in window
    )
    return rows[:, None] * columns
