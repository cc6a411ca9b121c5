"""Gaussian blur with PIL's filter: three passes of an extended box filter.

Gwosdek et al., *Theoretical Foundations of Gaussian Convolution by Extended Box Filtering*, 2011: the width and the
weight at the edges give three passes together the variance ``sigma ** 2``.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import ImageFilter

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import TRANSFORMS

from .kernels import kornia
from .operation import Group, Numbers, Operation, Size, checked_probability, group, happens, uniform

_PASSES = 3
FloatOrTensor = TypeVar('FloatOrTensor', float, torch.Tensor)


@TRANSFORMS.register_module()
class PILGaussianBlur(BaseTransform):
    """Gaussian blur with PIL's filter, as in SimCLR's, MoCo v2's and MoCo v3's recipes.

    torchvision's blur takes a kernel size and cuts the Gaussian off there; PIL's extended box blur does not.

    Args:
        radius: Range (low, high) in pixels of the uniformly drawn standard deviation.
        p: Probability of blurring.

    Raises:
        ConfigError: ``radius`` is not a range of non-negative numbers or ``p`` is outside [0, 1].
    """

    def __init__(self, radius: Sequence[float] = (0.1, 2.0), p: float = 0.5) -> None:
        if len(radius) != 2 or not 0 <= radius[0] <= radius[1]:
            raise ConfigError(f'PILGaussianBlur: radius is {radius!r}, expected (low, high) with 0 <= low <= high')
        self.low, self.high = map(float, radius)
        self.p = checked_probability('PILGaussianBlur', p)

    def draw(self) -> float | None:
        """Draw the standard deviation in pixels, ``None`` for no blur."""
        return uniform(self.low, self.high) if happens(self.p) else None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Blur ``img`` or leave it."""
        sigma = self.draw()
        if sigma is not None:
            results['img'] = results['img'].filter(ImageFilter.GaussianBlur(sigma))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(radius=({self.low}, {self.high}), p={self.p})'


class BlurRow(NamedTuple):
    """How much to blur.

    Attributes:
        sigma: Standard deviation in pixels, 0 for none.
        largest: The largest that can be drawn, so that the filters of all batches have one size.
    """

    sigma: Numbers
    largest: Numbers

    @property
    def of_all(self) -> tuple[str, ...]:
        """Fields that hold for the whole batch."""
        return ('largest',)

    def groups(self) -> Iterable[Group]:
        """Blur some."""
        half = half_width(float(self.largest.max()))
        return [group(partial(blur_batch, half=half), self.sigma != 0, self.sigma)]


def _edge(variance: FloatOrTensor, inner: FloatOrTensor) -> FloatOrTensor:
    """Weight at both ends of a box that is 1 up to ``inner`` pixels from its center, for this variance of one pass."""
    return (2 * inner + 1) * (inner * (inner + 1) - 3 * variance) / (6 * (variance - (inner + 1) ** 2))


def box_kernel(sigma: float) -> np.ndarray:
    """Box filter of one pass of a blur by ``sigma`` pixels; odd length, sum 1, float32."""
    variance = sigma * sigma / _PASSES
    inner = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    edge = _edge(variance, inner)
    box = np.ones(2 * inner + 3, np.float32)
    box[[0, -1]] = edge
    return box / (2 * inner + 1 + 2 * edge)


def box_kernels(sigmas: torch.Tensor, half: int) -> torch.Tensor:
    """Box filters [B, 2 * half + 1] of one pass of blurs by sigmas [B] pixels."""
    variances = sigmas.double().square() / _PASSES
    inner = (((12 * variances + 1).sqrt() - 1) / 2).floor()
    edges = _edge(variances, inner)[:, None]
    offsets = torch.arange(-half, half + 1, device=sigmas.device).abs()
    inner = inner[:, None]
    kernels = (offsets <= inner).double() + edges * (offsets == inner + 1)
    return (kernels / (2 * inner + 1 + 2 * edges)).float()


def half_width(sigma: float) -> int:
    """How far one pass of a blur by ``sigma`` reaches, in pixels."""
    return math.floor((math.sqrt(4 * sigma * sigma + 1) - 1) / 2) + 1


def blur_array(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by ``sigma`` pixels."""
    box = box_kernel(sigma).astype(np.float32)
    for _ in range(_PASSES):
        image = cv2.sepFilter2D(image, -1, box, box, borderType=cv2.BORDER_REPLICATE)
    return image


def blur_batch(images: torch.Tensor, sigmas: torch.Tensor, half: int) -> torch.Tensor:
    """Blur by sigmas [B] pixels; one pass of the largest reaches no farther than ``half`` pixels."""
    kernels = box_kernels(sigmas, half)
    blurred = images.float()
    for _ in range(_PASSES):
        blurred = kornia().filters.filter2d_separable(blurred, kernels, kernels, border_type='replicate')
        blurred.round_()
    return blurred.clamp_(0, 255).to(torch.uint8)


class Blur(Operation):
    """Our :class:`PILGaussianBlur`."""

    stands_for = PILGaussianBlur

    def __init__(self, transform: PILGaussianBlur, channels: int) -> None:
        super().__init__(transform, channels)
        self.transform = transform

    def draw(self, height: int, width: int) -> BlurRow | None:
        """Draw the standard deviation."""
        sigma = self.transform.draw()
        return BlurRow(sigma, self.transform.high) if sigma else None  # 0 blurs nothing

    def apply(self, image: np.ndarray, drawn: BlurRow) -> np.ndarray:
        """Blur."""
        return blur_array(image, drawn.sigma)

    def idle(self, size: Size) -> BlurRow:
        """No blur."""
        return BlurRow(0.0, self.transform.high)
