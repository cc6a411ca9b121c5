"""Original, masked and reconstructed images side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mmselfsup_graft.analysis.figures.picture_grid import draw_rows, draw_titled_rows
from mmselfsup_graft.datasets.seeding import preserved_random_state
from mmselfsup_graft.errors import ConfigError

from .stitching import Reconstructor, reconstruct_stitched

_GREY = 127.5


class Pictures(NamedTuple):
    """The same images four times, each uint8 [H, W] or [H, W, C].

    Attributes:
        original: The images.
        masked: Hidden pixels gray.
        prediction: All of the model's output, also for visible patches.
        pasted: The prediction where pixels are hidden, the original elsewhere.
    """

    original: list[np.ndarray]
    masked: list[np.ndarray]
    prediction: list[np.ndarray]
    pasted: list[np.ndarray]


NAMES = ('original', 'masked', 'reconstruction', 'visible part\npasted in')  # of the four in a picture


def find_reconstructor(model: Any) -> tuple[Reconstructor, int | None]:
    """The part of a pre-training model that predicts pixels.

    Returns:
        The model itself and None; of a :class:`MultiTask` its first objective that can, and the number of its
        view.

    Raises:
        ConfigError: If nothing in it predicts pixels.
    """
    if hasattr(model, 'reconstruct'):
        return model, None
    for name, objective in getattr(model, 'objectives', {}).items():
        if hasattr(objective, 'reconstruct'):
            return objective, model.views[name]
    kind = type(model).__name__
    instead = 'features of its base model, not pixels' if hasattr(model, 'base_model') else 'no pixels'
    raise ConfigError(
        f'{kind} predicts {instead}: no reconstruction to draw; use MAE, SimMIM, A2MIM, or a MultiTask with one of them'
    )


def pixel_statistics(model: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel by which a model's preprocessor normalizes pixels 0..255."""
    preprocessor = model.data_preprocessor
    if not hasattr(preprocessor, 'mean'):  # it does not normalize
        return [0.0], [1.0]
    return preprocessor.mean.flatten().tolist(), preprocessor.std.flatten().tolist()


@torch.no_grad()
def reconstruct_images(
    model: Reconstructor,
    images: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
    window: tuple[int, int] | None = None,
) -> Pictures:
    """Reconstruct images; the caller's random state is restored.

    Images larger than the window are reconstructed in overlapping windows (:func:`reconstruct_stitched`).

    Args:
        model: In eval mode, on the device of the images.
        images: [B, C, H, W] raw pixels in 0..255.
        mean: Per channel, in 0..255 units.
        std: Likewise.
        seed: Of the mask.
        window: Height and width of the model's input. None: the size of its backbone; any size if it
            has none.
    """
    shift, scale = (torch.tensor(v, dtype=torch.float32, device=images.device).view(1, -1, 1, 1) for v in (mean, std))
    inputs = (images.float() - shift) / scale
    window = window or getattr(getattr(model, 'backbone', None), 'img_size', None)
    with _seeded(seed, images.device):
        if window and _larger(inputs.shape[-2:], window):
            prediction, mask = reconstruct_stitched(model, inputs, window)
        else:
            prediction, mask = model.reconstruct(inputs)
    prediction, mask = prediction.float(), mask.float()
    gray = (_GREY - shift) / scale
    masked = inputs * (1 - mask) + gray * mask
    pasted = inputs * (1 - mask) + prediction * mask
    return Pictures(*(_to_pixels(x, shift, scale) for x in (inputs, masked, prediction, pasted)))


def _larger(size: Sequence[int], window: Sequence[int]) -> bool:
    """Whether a window is smaller than an image."""
    return tuple(size) != tuple(window) and all(each >= side for each, side in zip(size, window))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all generators that a model may use within the block; restore them afterwards."""
    gpus = [device] if device.type == 'cuda' else []
    with preserved_random_state(), torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def _to_pixels(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> list[np.ndarray]:
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
    """Reconstruct images and draw them, see :func:`reconstruct_images` and :func:`draw_pictures`."""
    draw_pictures(reconstruct_images(model, images, mean, std, seed), target, title)


def draw_pictures(pictures: Pictures, target: Path, title: str = '') -> None:
    """Draw one column per image; rows: original, masked, prediction, prediction with the visible part pasted in.

    Args:
        pictures: What to draw.
        target: PNG to write.
        title: Heading.
    """
    draw_rows(dict(zip(NAMES, pictures)), target, title)


def reconstruct_photo(
    model: Reconstructor,
    photo: np.ndarray,
    window: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
) -> Pictures:
    """Reconstruct one photo, at least as large as the model's input, see :func:`reconstruct_images`.

    Args:
        photo: uint8 [H, W] or [H, W, C] with as many channels as the model takes.
        window: Side of the model's input.
        model, mean, std, seed: As in :func:`reconstruct_images`.
    """
    pixels = torch.from_numpy(photo.copy()).reshape(*photo.shape[:2], -1).permute(2, 0, 1)
    return reconstruct_images(model, pixels[None], mean, std, seed, (window, window))


def draw_photo_reconstructions(
    model: Reconstructor,
    photos: Mapping[str, np.ndarray],
    window: int,
    mean: Sequence[float],
    std: Sequence[float],
    target: Path,
) -> None:
    """Draw one row per photo: original, masked, and the reconstruction with the visible part pasted in.

    Args:
        photos: Name -> uint8 photo.
        target: PNG to write.
        model, window, mean, std: As in :func:`reconstruct_photo`.
    """
    rows = []
    for name, photo in photos.items():
        pictures = reconstruct_photo(model, photo, window, mean, std)
        masked = f'{model.mask_ratio:.0%} of it hidden'
        rows.append({name: pictures.original[0], masked: pictures.masked[0], 'reconstruction': pictures.pasted[0]})
    draw_titled_rows(rows, target)
