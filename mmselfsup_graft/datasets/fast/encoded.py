"""Decode and crop a batch on the device that trains (nvJPEG where that is a CUDA device)."""

from collections.abc import Sequence

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from mmselfsup_graft.datasets.augment import CropRow
from mmselfsup_graft.errors import DataError


def decode_views(
    files: Sequence[bytes], source: torch.Tensor, windows: Sequence[CropRow], device: torch.device
) -> list[torch.Tensor]:
    """Decode the images and cut out of them every view.

    Args:
        files: For each of B images the bytes of a JPEG file, or of the pixels.
        source: [B, 4] on the host: 1 for a file and 0 for pixels (H, W, C), then H, W and C.
        windows: For each view its windows of B images, on the host.
        device: Where to decode.

    Returns:
        For each view uint8 [B, C, h, w] on the device.

    Raises:
        DataError: A file cannot be decoded whole.
    """
    images = _decoded(files, source, device)
    return [row.cut(images) for row in windows]


def _decoded(files: Sequence[bytes], source: torch.Tensor, device: torch.device) -> list[torch.Tensor]:
    shapes = source.int().tolist()
    bytes_of = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    coded = [number for number, (is_file, *_) in enumerate(shapes) if is_file]
    images = [
        bytes_of[number].view(height, width, channels).permute(2, 0, 1).to(device) if not is_file else bytes_of[number]
        for number, (is_file, height, width, channels) in enumerate(shapes)
    ]
    if coded:
        for number, image in zip(coded, _jpegs([bytes_of[number] for number in coded], device)):
            images[number] = image
    return images


def _jpegs(files: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    try:
        return decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
    except RuntimeError as error:
        raise DataError(
            f"a JPEG file of the batch cannot be decoded ({error}); fast='nvjpeg' cannot replace it, fast='device' can"
        ) from error
