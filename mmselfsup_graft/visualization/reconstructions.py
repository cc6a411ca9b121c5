"""Original, masked and reconstructed images side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import matplotlib
import numpy as np
import torch

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mmselfsup_graft.datasets.seeding import preserved_random_state
from mmselfsup_graft.errors import ConfigError

from .picture_grid import draw_rows, save_figure

_GREY = 127.5


class Reconstructor(Protocol):
    """A model that fills hidden patches in, such as :class:`mmselfsup_graft.models.MAE`."""

    def reconstruct(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction [B, C, H, W] and mask [B, 1, H, W] (1 = hidden) for normalised images [B, C, H, W]."""


class Pictures(NamedTuple):
    """The same images four times, each uint8 [H, W] or [H, W, C].

    Attributes:
        original: As they are.
        masked: Hidden pixels grey.
        prediction: All that the model says, also about what it has seen.
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
        The model itself and None; of a :class:`MultiTask` its first objective that can, and the number of the view
        which that one takes.

    Raises:
        ConfigError: If nothing in it predicts pixels.
    """
    if hasattr(model, 'reconstruct'):
        return model, None
    for name, objective in getattr(model, 'objectives', {}).items():
        if hasattr(objective, 'reconstruct'):
            return objective, model.views[name]
    kind = type(model).__name__
    instead = 'features of its base model, not pixels' if kind == 'TEC' else 'no pixels'
    raise ConfigError(
        f'{kind} predicts {instead}: there is no reconstruction to draw; it takes MAE, SimMIM, A2MIM, or a MultiTask '
        'with one of them'
    )


def pixel_statistics(model: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel by which a model's preprocessor normalises pixels 0..255."""
    preprocessor = model.data_preprocessor
    if not hasattr(preprocessor, 'mean'):  # it leaves pixels as they are
        return [0.0], [1.0]
    return preprocessor.mean.flatten().tolist(), preprocessor.std.flatten().tolist()


@torch.no_grad()
def reconstruct_images(
    model: Reconstructor, images: torch.Tensor, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> Pictures:
    """Reconstruct images; random numbers of the caller are left alone.

    Args:
        model: In eval mode, on the device of the images.
        images: [B, C, H, W] raw pixels in 0..255.
        mean: Per channel, in 0..255 units.
        std: Likewise.
        seed: Of the mask.
    """
    shift, scale = (torch.tensor(v, dtype=torch.float32, device=images.device).view(1, -1, 1, 1) for v in (mean, std))
    inputs = (images.float() - shift) / scale
    with _seeded(seed, images.device):
        prediction, mask = model.reconstruct(inputs)
    prediction, mask = prediction.float(), mask.float()
    grey = (_GREY - shift) / scale
    masked = inputs * (1 - mask) + grey * mask
    pasted = inputs * (1 - mask) + prediction * mask
    return Pictures(*(_to_pixels(x, shift, scale) for x in (inputs, masked, prediction, pasted)))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """All generators that a model may draw from seeded inside, and as they were afterwards."""
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
) -> list[np.ndarray]:
    """Reconstruct a photo larger than the model's input, window by window.

    Args:
        photo: uint8 [H, W] or [H, W, C] with as many channels as the model takes; cut to whole windows.
        window: Side of the model's input.
        model, mean, std, seed: As in :func:`reconstruct_images`.

    Returns:
        The photo four times, as in :class:`Pictures`, each [H', W'] or [H', W', C].
    """
    photo = photo if photo.ndim == 3 else photo[..., None]
    rows, columns = photo.shape[0] // window, photo.shape[1] // window
    photo = photo[: rows * window, : columns * window]
    tiles = torch.from_numpy(photo.copy()).reshape(rows, window, columns, window, -1).permute(0, 2, 4, 1, 3)
    tiles = tiles.flatten(0, 1)  # [rows * columns, C, window, window]
    stitched = []
    for pictures in reconstruct_images(model, tiles, mean, std, seed):
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
    """Draw one row per photo: original, masked and the two reconstructions (see :func:`reconstruct_photo`).

    Args:
        photos: Name -> uint8 photo.
        target: PNG to write.
        model, window, mean, std: As in :func:`reconstruct_photo`.
    """
    shapes = [photo.shape[0] / photo.shape[1] for photo in photos.values()]  # height of a photo 1 wide
    figure, axes = plt.subplots(
        len(photos),
        len(NAMES),
        figsize=(12.0, 3.0 * sum(shapes) + 0.4 * len(photos)),
        height_ratios=shapes,
        squeeze=False,
        layout='constrained',
    )
    for axis_row, (name, photo) in zip(axes, photos.items()):
        pictures = reconstruct_photo(model, photo, window, mean, std)
        titles = (f'original ({name})', *NAMES[1:])
        for axis, picture, title in zip(axis_row, pictures, titles):
            axis.imshow(picture, cmap='gray', vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.set_title(title.replace('\n', ' '), fontsize=9)
    save_figure(figure, target, dpi=130)
