"""Random affine map: torchvision's ``RandomAffine``."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn.functional import grid_sample
from torchvision import transforms
from torchvision.transforms.functional import _get_inverse_affine_matrix

from mmselfsup_graft.errors import ConfigError

from .kernels import BELOW_A_LEVEL
from .operation import Group, Numbers, Operation, Size, group, uniform

_MODES = ('nearest', 'bilinear')


class AffineRow(NamedTuple):
    """From where the pixels of the result come.

    Attributes:
        matrix: (a, b, c, d, e, f): (x, y) of the result comes from (a x + b y + c, d x + e y + f), in pixels from the
            upper left corner. Zeros for an image that stays as it is.
        bilinear: Whether to interpolate, the same for all images; otherwise the nearest pixel is taken.
        fill: Level of each channel outside the image.
    """

    matrix: Numbers
    bilinear: Numbers
    fill: Numbers

    @property
    def of_all(self) -> tuple[str, ...]:
        """Fields that hold for the whole batch."""
        return ('bilinear',)

    def groups(self) -> Iterable[Group]:
        """Warp what has a matrix."""
        function = partial(affine_batch, bilinear=bool(self.bilinear[0]))
        return [group(function, self.matrix.any(1), self.matrix, self.fill)]


def affine_array(image: np.ndarray, matrix: Sequence[float], bilinear: bool, fill: Sequence[float]) -> np.ndarray:
    """Take every pixel from where the matrix maps its center to; what lies outside the image is filled.

    As in PIL, the edge is sharp: a position inside the image is interpolated between its pixels alone.

    Args:
        image: (H, W, 3) or (H, W).
        matrix: See :class:`AffineRow`, as the others.
        bilinear: Interpolate.
        fill: Level of each channel.
    """
    height, width = image.shape[:2]
    a, b, c, d, e, f = matrix
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5  # centers
    columns, rows = a * x + (b * y + c), d * x + (e * y + f)  # (H, W) each
    outside = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
    if bilinear:
        places = (columns - 0.5).astype(np.float32), (rows - 0.5).astype(np.float32)
        levels = cv2.remap(image.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        result = (levels + np.float32(BELOW_A_LEVEL)).astype(np.uint8)
    else:
        result = image[rows.clip(0, height - 1).astype(np.intp), columns.clip(0, width - 1).astype(np.intp)]
    result[outside] = fill if image.ndim == 3 else fill[0]
    return result


def affine_batch(images: torch.Tensor, matrices: torch.Tensor, fill: torch.Tensor, bilinear: bool) -> torch.Tensor:
    """Warp a batch as :func:`affine_array` does an image.

    Args:
        images: uint8 [B, C, H, W].
        matrices: [B, 6].
        fill: [B, C].
        bilinear: Interpolate.
    """
    height, width = images.shape[-2:]
    centers = [torch.arange(side, device=images.device) + 0.5 for side in (width, height)]
    x, y = centers[0], centers[1][:, None]
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)  # [B, 1, 1] each
    columns, lines = a * x + (b * y + c), d * x + (e * y + f)  # [B, H, W] each
    outside = (columns < 0) | (columns >= width) | (lines < 0) | (lines >= height)
    grid = torch.stack([columns * (2 / width) - 1, lines * (2 / height) - 1], -1)
    found = grid_sample(images.float(), grid, _MODES[bilinear], padding_mode='border', align_corners=False)
    filled = torch.where(outside[:, None], fill[:, :, None, None], found)
    return filled.add_(BELOW_A_LEVEL).to(torch.uint8)


class Affine(Operation):
    """torchvision's ``RandomAffine``: the matrix from the result to the image is drawn."""

    stands_for = transforms.RandomAffine

    def __init__(self, transform: transforms.RandomAffine, channels: int) -> None:
        super().__init__(transform, channels)
        self.ranges = (transform.degrees, transform.translate, transform.scale, transform.shear)
        self.center, mode = transform.center, transform.interpolation.value
        if mode not in _MODES:
            raise ConfigError(
                f'RandomAffine: interpolation {mode!r} has no fast form (only {", ".join(_MODES)}); leave out fast'
            )
        self.bilinear = mode == 'bilinear'
        fill = list(transform.fill) if isinstance(transform.fill, Sequence) else [transform.fill]
        if len(fill) not in (1, channels):
            raise ConfigError(f'RandomAffine: fill has {len(fill)} levels, expected 1 or {channels}, one per channel')
        self.fill = [float(int(level)) for level in fill] * (channels // len(fill))

    def draw(self, height: int, width: int) -> AffineRow:
        """Draw the matrix; the draws are torchvision's."""
        degrees, translate, scale, shear = self.ranges
        angle = uniform(*degrees)
        reach = () if translate is None else (translate[0] * width, translate[1] * height)
        shift = [round(uniform(-most, most)) for most in reach] or [0, 0]
        factor = 1.0 if scale is None else uniform(*scale)
        slants = [uniform(*shear[axis : axis + 2]) for axis in range(0, len(shear or ()), 2)]
        center = self.center or [width / 2, height / 2]
        matrix = _get_inverse_affine_matrix(center, angle, shift, factor, [*slants, 0.0, 0.0][:2])
        return AffineRow(matrix, self.bilinear, self.fill)

    def apply(self, image: np.ndarray, drawn: AffineRow) -> np.ndarray:
        """Warp."""
        return affine_array(image, drawn.matrix, drawn.bilinear, drawn.fill)

    def idle(self, size: Size) -> AffineRow:
        """A matrix of zeros."""
        return AffineRow([0.0] * 6, self.bilinear, self.fill)
