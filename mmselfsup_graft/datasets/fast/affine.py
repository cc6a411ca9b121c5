"""torchvision's ``RandomAffine`` as a step."""

from collections.abc import Iterable, Sequence

import numpy as np
from torchvision import transforms
from torchvision.transforms.functional import _get_inverse_affine_matrix

from mmselfsup_graft.errors import ConfigError

from . import cpu_ops
from .steps import Row, Size, Step, uniform

_MODES = ('nearest', 'bilinear')


class Affine(Step):
    """torchvision's ``RandomAffine``: the matrix from the result to the image is drawn."""

    def __init__(self, transform: transforms.RandomAffine, channels: int) -> None:
        super().__init__(transform, channels)
        self.ranges = (transform.degrees, transform.translate, transform.scale, transform.shear)
        self.center, mode = transform.center, transform.interpolation.value
        if mode not in _MODES:
            raise ConfigError(
                f'RandomAffine: interpolation {mode!r} has no fast form (only {", ".join(_MODES)}); leave out fast'
            )
        self.mode = _MODES.index(mode)
        fill = list(transform.fill) if isinstance(transform.fill, Sequence) else [transform.fill]
        if len(fill) not in (1, channels):
            raise ConfigError(f'RandomAffine: fill has {len(fill)} levels, expected 1 or {channels}, one per channel')
        self.fill = [float(int(level)) for level in fill] * (channels // len(fill))

    def draw(self, height: int, width: int) -> list[float]:
        """Draw the matrix, see :func:`mmselfsup_graft.datasets.fast.cpu_ops.affine`; the draws are torchvision's."""
        degrees, translate, scale, shear = self.ranges
        angle = uniform(*degrees)
        reach = () if translate is None else (translate[0] * width, translate[1] * height)
        shift = [round(uniform(-most, most)) for most in reach] or [0, 0]
        factor = 1.0 if scale is None else uniform(*scale)
        slants = [uniform(*shear[axis : axis + 2]) for axis in range(0, len(shear or ()), 2)]
        center = self.center or [width / 2, height / 2]
        return _get_inverse_affine_matrix(center, angle, shift, factor, [*slants, 0.0, 0.0][:2])

    def apply(self, image: np.ndarray, drawn: list[float]) -> np.ndarray:
        """Warp."""
        return cpu_ops.affine(image, drawn, bool(self.mode), self.fill)

    def rows(self, drawn: list[float] | None, size: Size) -> Iterable[Row]:
        """The matrix, 0 for none, the interpolation and the level of each channel outside the image."""
        return [('affine', [*(drawn or [0.0] * 6), self.mode, *self.fill])]
