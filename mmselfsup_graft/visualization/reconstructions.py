"""Original, masked and reconstructed images side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import matplotlib
import numpy as np
import torch

matplotlib.use('Agg')
import matplotlib.pyplot as plt


class Reconstructor(Protocol):
    """A model that fills hidden patches in, such as :class:`mmselfsup_graft.models.MAE`."""

    def reconstruct(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction [B, C, H, W] and mask [B, 1, H, W] (1 = hidden) for normalised images [B, C, H, W]."""


def _to_pictures(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> list[np.ndarray]:
    pixels = (images * std + mean).clamp(0, 255).round().byte()
    return [p.permute(1, 2, 0).squeeze(-1).cpu().numpy() for p in pixels]  # HW or HWC


def draw_reconstructions(
    model: Reconstructor,
    images: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    target: Path,
    title: str = '',
    seed: int = 0,
) -> None:
    """Draw one column per image; rows: original, masked, prediction (visible patches as they are).

    Args:
        model: In eval mode.
        images: [B, C, H, W] raw pixels in 0..255.
        mean: Per channel, in 0..255 units.
        std: Likewise.
        target: PNG to write.
        title: Heading.
        seed: Of the mask.
    """
    rows = masked_and_reconstructed(model, images, mean, std, seed)
    figure, axes = plt.subplots(3, len(images), figsize=(1.1 * len(images) + 0.9, 3.9), squeeze=False)
    for axis_row, pictures, name in zip(axes, rows, ('original', 'masked', 'reconstruction')):
        for axis, picture in zip(axis_row, pictures):
            axis.imshow(picture, cmap='gray', vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        axis_row[0].set_ylabel(name)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(target, dpi=120)
    plt.close(figure)


@torch.no_grad()
def masked_and_reconstructed(
    model: Reconstructor, images: torch.Tensor, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Originals, masked images (hidden patches grey) and reconstructions as uint8 arrays; args as above."""
    shift, scale = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std))
    inputs = (images.float() - shift) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prediction, mask = model.reconstruct(inputs)
    grey = (127.5 - shift) / scale
    masked = inputs * (1 - mask) + grey * mask
    filled = inputs * (1 - mask) + prediction * mask
    originals, hidden, result = (_to_pictures(x, shift, scale) for x in (inputs, masked, filled))
    return originals, hidden, result


def reconstruct_photo(
    model: Reconstructor,
    photo: np.ndarray,
    window: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
) -> list[np.ndarray]:
    """Reconstruct a photo larger than the model's input, window by window.

    Args:
        photo: uint8 [H, W] or [H, W, C] with as many channels as the model takes; cut to whole windows.
        window: Side of the model's input.
        model, mean, std, seed: As in :func:`draw_reconstructions`.

    Returns:
        Original, masked and reconstructed photo, each [H', W'] or [H', W', C].
    """
    photo = photo if photo.ndim == 3 else photo[..., None]
    rows, columns = photo.shape[0] // window, photo.shape[1] // window
    photo = photo[: rows * window, : columns * window]
    tiles = torch.from_numpy(photo.copy()).reshape(rows, window, columns, window, -1).permute(0, 2, 4, 1, 3)
    tiles = tiles.flatten(0, 1)  # [rows * columns, C, window, window]
    stitched = []
    for pictures in masked_and_reconstructed(model, tiles, mean, std, seed):
        grid = np.stack(pictures).reshape(rows, columns, window, window, -1)
        stitched.append(grid.transpose(0, 2, 1, 3, 4).reshape(rows * window, columns * window, -1).squeeze())
    return stitched


def draw_photo_reconstructions(
    model: Reconstructor,
    photos: Mapping[str, np.ndarray],
    window: int,
    mean: Sequence[float],
    std: Sequence[float],
    target: Path,
) -> None:
    """Draw one row per photo: original, masked, reconstruction (see :func:`reconstruct_photo`).

    Args:
        photos: Name -> uint8 photo.
        target: PNG to write.
        model, window, mean, std: As in :func:`reconstruct_photo`.
    """
    first = next(iter(photos.values()))
    size = (9.0, 3.0 * first.shape[0] / first.shape[1] * len(photos) + 0.4 * len(photos))
    figure, axes = plt.subplots(len(photos), 3, figsize=size, squeeze=False, layout='constrained')
    for axis_row, (name, photo) in zip(axes, photos.items()):
        pictures = reconstruct_photo(model, photo, window, mean, std)
        for axis, picture, title in zip(axis_row, pictures, (f'original ({name})', 'masked', 'reconstruction')):
            axis.imshow(picture, cmap='gray', vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.set_title(title, fontsize=9)
    figure.savefig(target, dpi=130)
    plt.close(figure)
