"""PIL's image operations on batches: uint8 [B, C, H, W] and one row of numbers per image in, uint8 out.

Between the operations images have 8 bits, as in PIL, which truncates. The filter and the color arithmetic, but for
brightness, are kornia's, on 0..1; tests hold how far they and PIL are apart. Nothing here waits for the device.
"""

import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch.nn.functional import grid_sample

from mmselfsup_graft.errors import ConfigError

Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_BELOW_A_LEVEL = 1e-3  # float arithmetic may end just below the level that PIL truncates to


def _kornia() -> ModuleType:
    """kornia, which takes its time to import and is needed for blur and for colors other than brightness only."""
    try:
        import kornia
    except ImportError as error:
        raise ConfigError(
            "fast='device', 'nvjpeg' and 'dali' blur, and change all of a color but brightness, by kornia, which is "
            "not installed: bash tools/install.sh installs it; or take fast='cpu'"
        ) from error
    return kornia


def _unit(images: torch.Tensor) -> torch.Tensor:
    return images.float().div_(255)


def _levels(images: torch.Tensor) -> torch.Tensor:
    return images.mul(255).add_(_BELOW_A_LEVEL).clamp_(0, 255).to(torch.uint8)


def flip(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Mirror left and right; ``rows`` say no more."""
    return images.flip(-1)


def brightness(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Blend with black by factors [B]."""
    return _levels(_unit(images).mul_(factors[:, None, None, None]))


def contrast(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of the grey image by factors [B]."""
    return _levels(_kornia().enhance.adjust_contrast_with_mean_subtraction(_unit(images), factors))


def saturation(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Blend with the grey image by factors [B]."""
    return _levels(_kornia().enhance.adjust_saturation_with_gray_subtraction(_unit(images), factors))


def hue(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Turn the hue by factors [B] of the circle; hue and saturation have 8 bits, cut off, as in PIL."""
    color = _kornia().color
    h, s, v = color.rgb_to_hsv(_unit(images)).unbind(1)  # each [B, H, W]
    steps = (factors * 255).trunc()[:, None, None]
    h = ((h * (255 / (2 * math.pi)) + _BELOW_A_LEVEL).floor() + steps) % 256
    s = (s * 255 + _BELOW_A_LEVEL).floor()
    hsv = torch.stack([h * (2 * math.pi / 255), s / 255, v], 1)
    return color.hsv_to_rgb(hsv).mul_(255).round_().to(torch.uint8)


def grayscale(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Grey images in three equal channels; ``rows`` say no more."""
    grey = _kornia().color.rgb_to_grayscale(_unit(images))
    return grey.mul_(255).round_().to(torch.uint8).expand_as(images)


def solarize(images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Invert the levels from thresholds [B] on."""
    return torch.where(images < thresholds[:, None, None, None], images, 255 - images)


def affine(images: torch.Tensor, rows: torch.Tensor, bilinear: bool) -> torch.Tensor:
    """Take every pixel from where a matrix maps its center to; what lies outside the image is filled.

    As in PIL, the edge is sharp: a position inside the image is interpolated between its pixels alone.

    Args:
        images: uint8 [B, C, H, W].
        rows: [B, 6 + C]: a, b, c, d, e, f, then the level of each channel outside the image; (x, y) of the result comes
            from (a x + b y + c, d x + e y + f), in pixels from the upper left corner.
        bilinear: Interpolate; otherwise take the nearest pixel.
    """
    height, width = images.shape[-2:]
    centers = [torch.arange(side, device=images.device) + 0.5 for side in (width, height)]
    x, y = centers[0], centers[1][:, None]
    a, b, c, d, e, f = rows[:, :6, None, None].unbind(1)  # [B, 1, 1] each
    columns, lines = a * x + (b * y + c), d * x + (e * y + f)  # [B, H, W] each
    outside = (columns < 0) | (columns >= width) | (lines < 0) | (lines >= height)
    grid = torch.stack([columns * (2 / width) - 1, lines * (2 / height) - 1], -1)
    mode = 'bilinear' if bilinear else 'nearest'
    found = grid_sample(images.float(), grid, mode, padding_mode='border', align_corners=False)
    filled = torch.where(outside[:, None], rows[:, 6:, None, None], found)
    return filled.add_(_BELOW_A_LEVEL).to(torch.uint8)


def noise(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Add noise [B, H * W * C] in levels, round and clip."""
    batch, channels, height, width = images.shape
    noisy = values.view(batch, height, width, channels).permute(0, 3, 1, 2) + images
    return noisy.round_().clamp_(0, 255).to(torch.uint8)


def box_kernels(sigmas: torch.Tensor, half: int) -> torch.Tensor:
    """Extended box filters [B, 2 * half + 1] whose threefold use is PIL's blur by sigmas [B] pixels.

    Gwosdek et al., *Theoretical Foundations of Gaussian Convolution by Extended Box Filtering*, 2011: the width and the
    weight at the edges give three passes together the variance ``sigma ** 2``. The same formula in
    numpy, for one image in a worker, is ``mmselfsup_graft.datasets.fast.cpu_ops.box_kernel``: data sets and models do
    not import each other.
    """
    variances = sigmas.double().square() / 3
    inner = (((12 * variances + 1).sqrt() - 1) / 2).floor()
    edges = (2 * inner + 1) * (inner * (inner + 1) - 3 * variances) / (6 * (variances - (inner + 1).square()))
    offsets = torch.arange(-half, half + 1, device=sigmas.device).abs()
    inner, edges = inner[:, None], edges[:, None]
    kernels = (offsets <= inner).double() + edges * (offsets == inner + 1)
    return (kernels / (2 * inner + 1 + 2 * edges)).float()


def blur(images: torch.Tensor, sigmas: torch.Tensor, half: int) -> torch.Tensor:
    """Blur by sigmas [B] pixels; ``half`` pixels to each side are enough for one pass of the largest."""
    kernels = box_kernels(sigmas, half)
    blurred = images.float()
    for _ in range(3):
        blurred = _kornia().filters.filter2d_separable(blurred, kernels, kernels, border_type='replicate')
        blurred.round_()
    return blurred.clamp_(0, 255).to(torch.uint8)


def blur_half_width(sigma: float) -> int:
    """How far one of the three box filters of a blur by ``sigma`` reaches, in pixels."""
    return math.floor((math.sqrt(4 * sigma * sigma + 1) - 1) / 2) + 1
