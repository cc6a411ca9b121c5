"""Gaussian noise on every value of an image.

Its numbers, as many as the values of the image, travel whole if it is deferred. A generator on the device would save
their way there, but would draw another noise than the PIL transform, and so would all that draws after it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import TRANSFORMS

from .operation import Group, Numbers, Operation, Size, checked_probability, group, happens


@TRANSFORMS.register_module()
class PILGaussianNoise(BaseTransform):
    """Add independent Gaussian noise to every value of an 8-bit image, round and clip to 0..255.

    torchvision's ``v2.GaussianNoise`` takes float tensors only.

    Args:
        std: Standard deviation of the noise where the full range of the image is 0..1.
        p: Probability of adding noise.

    Raises:
        ConfigError: ``std`` is negative or ``p`` is outside [0, 1].
    """

    def __init__(self, std: float = 0.05, p: float = 1.0) -> None:
        if std < 0:
            raise ConfigError(f'PILGaussianNoise: std is {std!r}, expected a number >= 0 (full range is 0..1)')
        self.std = float(std)
        self.p = checked_probability('PILGaussianNoise', p)

    def draw(self, shape: Sequence[int]) -> torch.Tensor | None:
        """Draw the noise of an image of this shape in levels, ``None`` for no noise."""
        return torch.randn(*shape).mul_(255 * self.std) if happens(self.p) else None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add noise to ``img`` or leave it."""
        pixels = np.array(results['img'])  # (H, W) or (H, W, 3)
        levels = self.draw(pixels.shape)
        if levels is not None:
            results['img'] = Image.fromarray(noise_array(pixels, levels))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(std={self.std}, p={self.p})'


class NoiseRow(NamedTuple):
    """What to add.

    Attributes:
        levels: (H, W, 3) or (H, W), infinity for no noise.
    """

    levels: Numbers

    def groups(self) -> Iterable[Group]:
        """Add noise to some."""
        return [group(noise_batch, self.levels.flatten(1)[:, 0].isfinite(), self.levels)]


def noise_array(image: np.ndarray, levels: torch.Tensor) -> np.ndarray:
    """Add levels of the image's shape, round and clip."""
    return levels.add(torch.from_numpy(image)).round_().clamp_(0, 255).byte().numpy()


def noise_batch(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Add levels [B, H, W, C], or [B, H, W] for one channel, round and clip."""
    batch, channels, height, width = images.shape
    noisy = levels.view(batch, height, width, channels).permute(0, 3, 1, 2) + images
    return noisy.round_().clamp_(0, 255).to(torch.uint8)


class Noise(Operation):
    """Our :class:`PILGaussianNoise`."""

    stands_for = PILGaussianNoise

    def __init__(self, transform: PILGaussianNoise, channels: int) -> None:
        super().__init__(transform, channels)
        self.transform = transform

    def _shape(self, height: int, width: int) -> tuple[int, ...]:
        return (height, width, 3) if self.channels == 3 else (height, width)

    def draw(self, height: int, width: int) -> NoiseRow | None:
        """Draw the noise."""
        levels = self.transform.draw(self._shape(height, width))
        return None if levels is None else NoiseRow(levels)

    def apply(self, image: np.ndarray, drawn: NoiseRow) -> np.ndarray:
        """Add the noise."""
        return noise_array(image, drawn.levels)

    def idle(self, size: Size) -> NoiseRow:
        """Infinity."""
        return NoiseRow(torch.full(self._shape(*size), math.inf))
