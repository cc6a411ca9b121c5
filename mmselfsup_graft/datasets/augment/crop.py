"""Random resized crop: torchvision's ``RandomResizedCrop``."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torchvision import transforms
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mmselfsup_graft.errors import ConfigError

from .kernels import Scratch
from .operation import Numbers, Operation, Size, uniform, uniform_tensor

#: interpolations by their number in a row
INTERPOLATIONS = (InterpolationMode.NEAREST, InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)


class CropRow(NamedTuple):
    """A window and what it is resized to.

    Attributes:
        window: Top, left, height, width, in pixels of the image.
        size: Height and width of the result.
        interpolation: Number in :data:`INTERPOLATIONS`.
    """

    window: Numbers
    size: Numbers
    interpolation: Numbers

    def cut(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Cut the windows out of B images.

        Args:
            images: For each uint8 [C, H, W], of any height and width.

        Returns:
            uint8 [B, C, h, w].
        """
        fields = (field.int().tolist() for field in self)
        return torch.stack([_cut_and_resized(image, *each) for image, *each in zip(images, *fields)])


def _cut_and_resized(image: torch.Tensor, window: Sequence[int], size: list[int], interpolation: int) -> torch.Tensor:
    top, left, height, width = window
    cut = image[:, top : top + height, left : left + width]
    return F.resize_image(cut, size, interpolation=INTERPOLATIONS[interpolation], antialias=True)


def crop_array(
    image: np.ndarray,
    window: tuple[int, int, int, int],
    size: Size,
    mode: InterpolationMode,
    scratch: Scratch | None = None,
) -> np.ndarray:
    """Cut out (top, left, height, width) and resize it with antialiasing, by torch's 8-bit kernel."""
    top, left, height, width = window
    cut = (scratch or Scratch()).view(height, width, *image.shape[2:])
    np.copyto(cut, image[top : top + height, left : left + width])  # quicker than what the kernel does with a view
    pixels = torch.from_numpy(cut)
    pixels = pixels.permute(2, 0, 1)[None] if pixels.ndim == 3 else pixels[None, None]
    resized = F.resize_image(pixels, list(size), interpolation=mode, antialias=True)[0]
    return resized.permute(1, 2, 0).numpy() if image.ndim == 3 else resized[0].numpy()


class Crop(Operation):
    """torchvision's ``RandomResizedCrop``: the window is drawn."""

    stands_for = transforms.RandomResizedCrop
    deferrable = False  # only to a device that also decodes, see CropRow.cut

    def __init__(self, transform: transforms.RandomResizedCrop, channels: int) -> None:
        super().__init__(transform, channels)
        self.size = (int(transform.size[0]), int(transform.size[1]))
        self.scale, self.ratio, self.mode = transform.scale, transform.ratio, transform.interpolation
        self.log_ratio = torch.log(torch.tensor(transform.ratio)).tolist()
        self.scratch = Scratch()
        if self.mode not in INTERPOLATIONS:
            raise ConfigError(
                f'RandomResizedCrop: interpolation {self.mode.value!r} has no fast form (only '
                f'{", ".join(each.value for each in INTERPOLATIONS)}); leave out fast'
            )
        self.interpolation = INTERPOLATIONS.index(self.mode)

    def draw(self, height: int, width: int) -> CropRow:
        """Draw a window."""
        return CropRow(self._window(height, width), self.size, self.interpolation)

    def _window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw as torchvision does, without the tensors and checks around them, which cost more."""
        for _ in range(10):
            area = height * width * uniform(*self.scale)
            aspect = torch.exp(uniform_tensor(*self.log_ratio)).item()
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(0, height - h + 1, (1,)).item())
                return top, int(torch.randint(0, width - w + 1, (1,)).item()), h, w
        # none of ten windows fits: torchvision takes the largest one in the middle, and draws nothing more
        return self._middle(height, width)

    def _middle(self, height: int, width: int) -> tuple[int, int, int, int]:
        aspect = width / height
        if aspect < min(self.ratio):
            w, h = width, round(width / min(self.ratio))
        elif aspect > max(self.ratio):
            w, h = round(height * max(self.ratio)), height
        else:
            w, h = width, height
        return (height - h) // 2, (width - w) // 2, h, w

    def apply(self, image: np.ndarray, drawn: CropRow) -> np.ndarray:
        """Crop and resize."""
        return crop_array(image, drawn.window, self.size, self.mode, self.scratch)

    def size_after(self, size: Size) -> Size:
        """Always the output size."""
        return self.size
