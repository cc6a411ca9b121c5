"""Images in any form as a batch of raw pixels."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from PIL import Image

from mmselfsup_graft.datasets.image_modes import UnknownRange, to_rgb
from mmselfsup_graft.datasets.scanning import scan_folder
from mmselfsup_graft.datasets.transforms import CorruptImage, build_pipeline
from mmselfsup_graft.errors import ConfigError, DataError

Images = torch.Tensor | Sequence[str | os.PathLike | Image.Image | np.ndarray]


def as_pixels(images: Images, pipeline: Sequence[dict]) -> torch.Tensor:
    """Raw pixels [N, C, H, W] in 0..255.

    Args:
        images: A tensor of that shape, returned as it is; or files, Pillow's images or arrays (uint8 [H, W] or
            [H, W, 3], RGB) that go through the pipeline.
        pipeline: Configs of transforms, from ``LoadImage`` to ``PackInputs``.

    Raises:
        ConfigError: If there is no pipeline for images of any size.
        DataError: If one cannot be read, is of another kind, or a tensor holds numbers up to 1 only.
    """
    if isinstance(images, torch.Tensor):
        if images.dim() != 4:
            raise DataError(f'images have the shape {tuple(images.shape)}, expected [N, C, H, W]')
        if images.is_floating_point() and 0 < images.max() <= 1:
            raise DataError('the pixels lie between 0 and 1, expected 0 to 255: multiply them by 255')
        return images
    if not pipeline:
        raise ConfigError('the size of the encoder is not known: give the size, or images as a tensor [N, C, H, W]')
    transform = Compose(build_pipeline([dict(step) for step in pipeline]))
    return torch.stack([_load(image, number, transform) for number, image in enumerate(images)])


def check_list(images: Any) -> None:
    """Raise an error for one image in the place of several.

    Raises:
        DataError: If it is one file, image or array.
    """
    if isinstance(images, str | os.PathLike | Image.Image | np.ndarray):
        kind = type(images).__name__
        raise DataError(f'expected a list of images or a tensor [N, C, H, W], got one {kind}: put it in a list')


def image_files(files: Sequence[Path], count: int) -> list[Path]:
    """All given files, and the first ``count`` images of every folder among them.

    Raises:
        DataError: If a folder holds no image.
    """
    paths: list[Path] = []
    for file in files:
        if file.is_dir():
            found = scan_folder(str(file))
            found.left_out.check(len(found.paths), 1, str(file))  # logged only; these images are only for viewing
            paths += [file / name for name in found.paths[:count]]
        else:
            paths.append(file)
    return paths


def _load(image: Any, number: int, transform: Compose) -> torch.Tensor:
    name = str(image) if isinstance(image, str | os.PathLike) else f'image {number + 1}'
    try:
        return transform(_entry(image, name))['inputs']
    except (CorruptImage, UnknownRange) as error:
        raise DataError(f'{name} cannot be read as an image ({error})') from error


def _entry(image: Any, name: str) -> dict[str, Any]:
    if isinstance(image, str | os.PathLike):
        return {'img_path': os.fspath(image)}
    if isinstance(image, Image.Image):
        return {'img': np.asarray(image if image.mode == 'L' else to_rgb(image))}
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        return {'img': image}
    kind = f'{image.dtype} array of shape {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
    raise DataError(
        f"{name} is a {kind}, expected a file, one of Pillow's images, or a uint8 array [H, W] or [H, W, 3]"
    )
