"""What the kernels of several operations share.

Arrays are uint8, (H, W, 3) in RGB order or (H, W), and never changed in place; batches are uint8 [B, C, H, W]. PIL
works in 8 bits and truncates where OpenCV and torch round; tests hold how far they are apart.
"""

import math
from types import ModuleType

import cv2
import numpy as np
import torch

from mmselfsup_graft.errors import ConfigError

#: float arithmetic may end just below the level that PIL truncates to
BELOW_A_LEVEL = 1e-3
LEVELS = np.arange(256, dtype=np.float32)


class Scratch:
    """Memory for intermediate images, used again and again: to get fresh pages costs as much as half a crop."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type, tuple]:
        return Scratch, ()  # a copy has memory of its own

    def view(self, *shape: int) -> np.ndarray:
        """Return an array of this shape, which the next call overwrites."""
        size = math.prod(shape)
        if size > len(self._memory):
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size].reshape(shape)


def planes(image: np.ndarray) -> np.ndarray:
    """Copy (H, W, C) or (H, W) to contiguous (C, H, W)."""
    if image.ndim == 2:
        return image[None].copy()
    height, width, channels = image.shape
    result = np.empty((channels, height, width), np.uint8)
    cv2.split(image, list(result))
    return result


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """Scale a batch to 0..1, float32."""
    return images.float().div_(255)


def to_levels(images: torch.Tensor) -> torch.Tensor:
    """Truncate a batch in 0..1 to uint8, as PIL does."""
    return images.mul(255).add_(BELOW_A_LEVEL).clamp_(0, 255).to(torch.uint8)


def kornia() -> ModuleType:
    """Import kornia, which takes its time and is needed for blur and for colors other than brightness only.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import kornia
    except ImportError as error:
        raise ConfigError(
            "fast='device', 'nvjpeg' and 'dali' blur, and change all of a color but brightness, by kornia, which is "
            "not installed: bash tools/install.sh installs it; or take fast='cpu'"
        ) from error
    return kornia
