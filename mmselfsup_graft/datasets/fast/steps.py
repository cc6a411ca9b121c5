"""The transforms of a pipeline as steps that draw first and compute later, here or on the device that trains.

A step draws from torch's global CPU generator by the calls of the transform it stands for, in their order: for one
state of the generator both do the same to an image, up to the arithmetic of the kernels. What was drawn also fits into
a row of numbers (:meth:`Step.rows`), which travels with the batch.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torchvision import transforms

from mmselfsup_graft.datasets.transforms import PILGaussianBlur, PILGaussianNoise, RandomApply
from mmselfsup_graft.errors import ConfigError

from . import cpu_ops

_scratch = torch.empty(1)


def uniform(low: float, high: float) -> float:
    """Draw a number as ``torch.empty(1).uniform_(low, high)`` does, without the tensor, which costs as much."""
    return _scratch.uniform_(low, high).item()


Row = tuple[str, list[float] | torch.Tensor]
Size = tuple[int, int]
_RESIZABLE = ('nearest', 'bilinear', 'bicubic')


class Step:
    """One transform of images, uint8 (H, W, 3) or (H, W).

    Args:
        transform: The transform this step stands for.
        channels: Of the images, 3 or 1.
    """

    #: can be left to the device that trains: keeps the shape and needs no more than a row of numbers
    deferrable = True

    def __init__(self, transform: Any, channels: int) -> None:
        self.channels = channels

    def draw(self, height: int, width: int) -> Any:
        """Draw what to do to an image of this size; ``None`` leaves it as it is."""
        raise NotImplementedError

    def apply(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        """Return the changed image; it may share memory with ``image`` or with what the next call returns.

        Args:
            image: It is left as it is.
            drawn: What :meth:`draw` gave, not ``None``.
        """
        raise NotImplementedError

    def rows(self, drawn: Any, size: Size) -> Iterable[Row]:
        """Name of the operation and numbers, of a length that depends on the name and the size alone.

        Args:
            drawn: What :meth:`draw` gave, ``None`` included.
            size: Height and width of the image.
        """
        raise NotImplementedError

    def size_after(self, size: Size) -> Size:
        """Height and width of the result for an image of this height and width."""
        return size


class Crop(Step):
    """torchvision's ``RandomResizedCrop``: (top, left, height, width) is drawn."""

    deferrable = False

    def __init__(self, transform: transforms.RandomResizedCrop, channels: int) -> None:
        super().__init__(transform, channels)
        self.size = (int(transform.size[0]), int(transform.size[1]))
        self.scale, self.ratio, self.mode = transform.scale, transform.ratio, transform.interpolation
        self.log_ratio = torch.log(torch.tensor(transform.ratio)).tolist()
        self.scratch = cpu_ops.Scratch()
        if self.mode.value not in _RESIZABLE:
            raise ConfigError(
                f'RandomResizedCrop: interpolation {self.mode.value!r} has no fast form (only '
                f'{", ".join(_RESIZABLE)}); leave out fast'
            )

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a window: torchvision's draws, without the tensors and checks around them, which cost more."""
        for _ in range(10):
            area = height * width * uniform(*self.scale)
            aspect = torch.exp(_scratch.uniform_(*self.log_ratio)).item()
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

    def apply(self, image: np.ndarray, drawn: tuple[int, int, int, int]) -> np.ndarray:
        """Crop and resize."""
        return cpu_ops.crop_and_resize(image, drawn, self.size, self.mode, self.scratch)

    def rows(self, drawn: tuple[int, int, int, int], size: Size) -> Iterable[Row]:
        """Window, size and interpolation."""
        return [('crop', [*drawn, *self.size, _RESIZABLE.index(self.mode.value)])]

    def size_after(self, size: Size) -> Size:
        """The same for every image."""
        return self.size


class Flip(Step):
    """torchvision's ``RandomHorizontalFlip``."""

    def __init__(self, transform: transforms.RandomHorizontalFlip, channels: int) -> None:
        super().__init__(transform, channels)
        self.p = transform.p

    def draw(self, height: int, width: int) -> bool | None:
        """Draw whether to flip."""
        return True if torch.rand(1) < self.p else None

    def apply(self, image: np.ndarray, drawn: bool) -> np.ndarray:
        """Flip."""
        return cpu_ops.flip(image)

    def rows(self, drawn: bool | None, size: Size) -> Iterable[Row]:
        """1 for a flip."""
        return [('flip', [float(drawn is not None)])]


class Jitter(Step):
    """torchvision's ``ColorJitter``: order and factors of brightness, contrast, saturation, hue are drawn."""

    operations = (cpu_ops.brightness, cpu_ops.contrast, cpu_ops.saturation, cpu_ops.hue)

    def __init__(self, transform: transforms.ColorJitter, channels: int) -> None:
        super().__init__(transform, channels)
        self.ranges = (transform.brightness, transform.contrast, transform.saturation, transform.hue)

    def draw(self, height: int, width: int) -> list[tuple[int, float]]:
        """Draw (operation, factor) in the order in which they are run."""
        order = torch.randperm(4).tolist()
        factors = [None if each is None else uniform(*each) for each in self.ranges]
        known = 4 if self.channels == 3 else 2  # saturation and hue leave a grey image as it is
        return [(k, factor) for k in order if k < known and (factor := factors[k]) is not None]

    def apply(self, image: np.ndarray, drawn: list[tuple[int, float]]) -> np.ndarray:
        """Run the operations."""
        for number, factor in drawn:
            image = self.operations[number](image, factor)
        return image

    def rows(self, drawn: list[tuple[int, float]] | None, size: Size) -> Iterable[Row]:
        """Four operations in their order, -1 for none, then their four factors."""
        done = drawn or []
        rest = 4 - len(done)
        return [('color_jitter', [*(k for k, _ in done), *[-1] * rest, *(f for _, f in done), *[1.0] * rest])]


class Grayscale(Step):
    """torchvision's ``RandomGrayscale``."""

    def __init__(self, transform: transforms.RandomGrayscale, channels: int) -> None:
        super().__init__(transform, channels)
        self.p = transform.p

    def draw(self, height: int, width: int) -> bool | None:
        """Draw whether to drop the colours; a grey image has none."""
        happens = bool(torch.rand(1) < self.p)
        return True if happens and self.channels == 3 else None

    def apply(self, image: np.ndarray, drawn: bool) -> np.ndarray:
        """Drop the colours."""
        return cpu_ops.grayscale(image)

    def rows(self, drawn: bool | None, size: Size) -> Iterable[Row]:
        """1 for a grey image."""
        return [('grayscale', [float(drawn is not None)])]


class Solarize(Step):
    """torchvision's ``RandomSolarize``."""

    def __init__(self, transform: transforms.RandomSolarize, channels: int) -> None:
        super().__init__(transform, channels)
        self.p, self.threshold = transform.p, float(transform.threshold)

    def draw(self, height: int, width: int) -> float | None:
        """Draw whether to solarise, from which level on."""
        return self.threshold if torch.rand(1).item() < self.p else None

    def apply(self, image: np.ndarray, drawn: float) -> np.ndarray:
        """Invert the upper levels."""
        return cpu_ops.solarize(image, drawn)

    def rows(self, drawn: float | None, size: Size) -> Iterable[Row]:
        """First level that is inverted, 256 for none."""
        return [('solarize', [256.0 if drawn is None else drawn])]


class Blur(Step):
    """Our ``PILGaussianBlur``."""

    def __init__(self, transform: PILGaussianBlur, channels: int) -> None:
        super().__init__(transform, channels)
        self.p, self.low, self.high = transform.p, transform.low, transform.high

    def draw(self, height: int, width: int) -> float | None:
        """Draw the standard deviation in pixels."""
        if torch.rand(1).item() > self.p:
            return None
        return uniform(self.low, self.high) or None  # 0 blurs nothing

    def apply(self, image: np.ndarray, drawn: float) -> np.ndarray:
        """Blur."""
        return cpu_ops.blur(image, drawn)

    def rows(self, drawn: float | None, size: Size) -> Iterable[Row]:
        """Standard deviation, 0 for none, and the largest one there can be."""
        return [('blur', [drawn or 0.0, self.high])]


class Noise(Step):
    """Our ``PILGaussianNoise``. Its numbers, as many as the values of the image, travel whole if it is deferred.

    A generator on the device would save their way there, but the noise would be another one than the transform's, and
    so would be all that is drawn after it.
    """

    def __init__(self, transform: PILGaussianNoise, channels: int) -> None:
        super().__init__(transform, channels)
        self.p, self.std = transform.p, transform.std

    def draw(self, height: int, width: int) -> torch.Tensor | None:
        """Draw the noise, (H, W, 3) or (H, W) in levels."""
        if torch.rand(1).item() > self.p:
            return None
        shape = (height, width, 3) if self.channels == 3 else (height, width)
        return torch.randn(shape).mul_(255 * self.std)

    def apply(self, image: np.ndarray, drawn: torch.Tensor) -> np.ndarray:
        """Add the noise."""
        return drawn.add(torch.from_numpy(image)).round_().clamp_(0, 255).byte().numpy()

    def rows(self, drawn: torch.Tensor | None, size: Size) -> Iterable[Row]:
        """The noise of each value of (H, W, C), infinity for none."""
        if drawn is None:
            return [('noise', torch.full((math.prod(size) * self.channels,), math.inf))]
        return [('noise', drawn.flatten())]


class Maybe(Step):
    """Our ``RandomApply``: all of its steps or none.

    Args:
        transform: The transform this step stands for.
        channels: Of the images.
        steps: What it runs.
    """

    def __init__(self, transform: RandomApply, channels: int, steps: Sequence[Step]) -> None:
        super().__init__(transform, channels)
        self.p, self.steps = transform.p, tuple(steps)
        self.deferrable = all(step.deferrable for step in self.steps)

    def draw(self, height: int, width: int) -> list[Any] | None:
        """Draw whether to run the steps, and what each of them does."""
        if torch.rand(1).item() > self.p:
            return None
        return [step.draw(height, width) for step in self.steps]

    def apply(self, image: np.ndarray, drawn: list[Any]) -> np.ndarray:
        """Run the steps."""
        for step, each in zip(self.steps, drawn):
            if each is not None:
                image = step.apply(image, each)
        return image

    def rows(self, drawn: list[Any] | None, size: Size) -> Iterable[Row]:
        """The rows of all steps."""
        each = [None] * len(self.steps) if drawn is None else drawn
        return [row for step, one in zip(self.steps, each) for row in step.rows(one, size)]
