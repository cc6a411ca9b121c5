"""Small image folders and the names of our registry for all tests of the datasets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)


def pixels(number: int, size: int = 8, channels: int = 3) -> np.ndarray:
    """Return an image that differs from that of any other number, uint8 of shape (size, size[, 3])."""
    shape = (size, size) if channels == 1 else (size, size, channels)
    return np.random.RandomState(number).randint(0, 256, shape, dtype=np.uint8)


def write_image(path: Path, number: int = 0, size: int = 8, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number, size, channels)).save(path, format='PNG')
    return path


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write 8x8 PNG images under the given relative paths and return the folder."""

    def write(*names: str, folder: str = 'images') -> Path:
        root = tmp_path / folder
        for number, name in enumerate(names):
            write_image(root / name, number)
        return root

    return write
