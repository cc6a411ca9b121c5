"""Augmentations of PIL images that torchvision lacks in the form that the published recipes use.

All of them draw from torch's global CPU generator only and keep the mode (``RGB`` or ``L``) of the image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image, ImageFilter

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import TRANSFORMS

from .building import build_pipeline


def _checked_probability(owner: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ConfigError(f'{owner}: p is {p!r}, expected a probability in [0, 1]')
    return float(p)


def _happens(p: float) -> bool:
    """Draw one number, also for p = 1, so that a change of ``p`` moves no other draw (as in torchvision)."""
    return bool(torch.rand(1).item() <= p)


@TRANSFORMS.register_module()
class RandomApply(BaseTransform):
    """Run a list of transforms with probability ``p``: torchvision's ``RandomApply`` for transform configs.

    Args:
        transforms: Transform configs or callables on a results dict.
        p: Probability that all of them are run, in order; otherwise none is.

    Raises:
        ConfigError: ``p`` is outside [0, 1].
    """

    def __init__(self, transforms: Sequence[dict[str, Any] | Callable], p: float = 0.5) -> None:
        self.transforms = build_pipeline(transforms)
        self.p = _checked_probability('RandomApply', p)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Run all transforms or none."""
        if _happens(self.p):
            for transform in self.transforms:
                results = transform(results)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(p={self.p}, transforms={self.transforms})'


@TRANSFORMS.register_module()
class PILGaussianBlur(BaseTransform):
    """Gaussian blur with PIL's filter, as in SimCLR's, MoCo v2's and MoCo v3's recipes.

    torchvision's blur takes a kernel size and cuts the Gaussian off there; PIL's extended box blur does not.

    Args:
        radius: Range (low, high) in pixels of the uniformly drawn standard deviation.
        p: Probability of blurring.

    Raises:
        ConfigError: ``radius`` is no range of non-negative numbers or ``p`` is outside [0, 1].
    """

    def __init__(self, radius: Sequence[float] = (0.1, 2.0), p: float = 0.5) -> None:
        if len(radius) != 2 or not 0 <= radius[0] <= radius[1]:
            raise ConfigError(f'PILGaussianBlur: radius is {radius!r}, expected (low, high) with 0 <= low <= high')
        self.low, self.high = map(float, radius)
        self.p = _checked_probability('PILGaussianBlur', p)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Blur ``img`` or leave it."""
        if _happens(self.p):
            radius = torch.empty(1).uniform_(self.low, self.high).item()
            results['img'] = results['img'].filter(ImageFilter.GaussianBlur(radius))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(radius=({self.low}, {self.high}), p={self.p})'


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
        self.p = _checked_probability('PILGaussianNoise', p)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add noise to ``img`` or leave it."""
        if _happens(self.p):
            pixels = torch.from_numpy(np.array(results['img']))  # (H, W) or (H, W, 3)
            noisy = torch.randn(pixels.shape).mul_(255 * self.std).add_(pixels)
            results['img'] = Image.fromarray(noisy.round_().clamp_(0, 255).byte().numpy())
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(std={self.std}, p={self.p})'
