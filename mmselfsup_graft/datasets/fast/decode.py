"""Image files to uint8 arrays: JPEG by the quickest decoder at hand, everything else as the PIL pipeline does it."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmselfsup_graft.datasets.augment.kernels import Scratch
from mmselfsup_graft.datasets.transforms import LoadImage

JPEG_START = b'\xff\xd8'


def _simplejpeg_decoder() -> Callable[[bytes, int], np.ndarray | None] | None:
    """Decode by libjpeg-turbo without a detour, if simplejpeg is installed."""
    try:
        import simplejpeg
    except ImportError:
        return None

    scratch = Scratch()

    def decode(data: bytes, channels: int) -> np.ndarray | None:
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
                return None  # PIL warns, or refuses it as a decompression bomb
            if channels == 3 and space in ('YCbCr', 'Gray'):
                return simplejpeg.decode_jpeg(data, buffer=scratch.view(height, width, 3))
            if channels == 1 and space == 'Gray':
                return simplejpeg.decode_jpeg(data, 'GRAY', buffer=scratch.view(height, width, 1))[:, :, 0]
        except ValueError:  # damaged, or odd in a way that PIL may accept
            pass
        return None

    return decode


def _torchvision_decoder() -> Callable[[bytes, int], np.ndarray | None]:
    from torchvision.io import decode_jpeg

    def decode(data: bytes, channels: int) -> np.ndarray | None:
        try:
            Image.open(io.BytesIO(data)).close()  # PIL is stricter about headers
            image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))  # (C, H, W), stored as (H, W, C)
        except Exception:  # whatever it is, PIL decides
            return None
        if len(image) != channels:
            return None
        array = image.permute(1, 2, 0).numpy()
        return array if channels == 3 else array[:, :, 0]

    return decode


class Decoder:
    """Read samples as uint8 arrays with the pixels that the transform ``LoadImage`` gives.

    simplejpeg or, where it is missing, torchvision decodes RGB and gray JPEG files, with the pixels of PIL. Whatever
    they refuse or PIL treats in its own way (other formats, CMYK, damaged files, a gray image of a colored file, more
    pixels than PIL takes without a warning) is left to PIL. So damaged or cut-off pixels are unreadable here if they
    are there; metadata are not read, so a file whose only damage lies there (a cut ICC segment, say) may be read by
    simplejpeg where PIL refuses it.

    Args:
        loader: The transform that begins the pipeline.
    """

    def __init__(self, loader: LoadImage) -> None:
        self.loader = loader
        self.channels = 3 if loader.mode == 'RGB' else 1
        self._jpeg: Callable[[bytes, int], np.ndarray | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_jpeg': None}  # functions of the process

    def read(self, info: Mapping[str, Any]) -> bytes:
        """Return the bytes of the image: ``info['img_bytes']``, or the file ``info['img_path']``.

        Raises:
            CorruptImage: The file cannot be read.
        """
        content = info.get('img_bytes')
        if content is not None:
            return content
        return self.loader.read_bytes(info['img_path'])

    def __call__(self, info: Mapping[str, Any]) -> np.ndarray:
        """Return the image as uint8, (H, W, 3) in RGB order or (H, W), in memory that the next call may use again.

        Args:
            info: Holds ``img_path``, ``img_bytes`` or ``img`` as the transform ``LoadImage`` takes it.

        Raises:
            CorruptImage: The image is missing, truncated or in no known format.
        """
        array = info.get('img')
        if array is None:
            return self.decode(self.read(info))
        if array.dtype == np.uint8 and array.shape[2:] == (3,)[: self.channels // 2]:
            return array
        return np.array(self.loader.transform({'img': array})['img'])

    def decode(self, data: bytes) -> np.ndarray:
        """Return the image in the bytes of a file, see :meth:`__call__`."""
        if data[:2] == JPEG_START:
            if self._jpeg is None:
                self._jpeg = _simplejpeg_decoder() or _torchvision_decoder()
            array = self._jpeg(data, self.channels)
            if array is not None:
                return array
        return np.array(self.loader.decode(io.BytesIO(data)))

    def jpeg_size(self, data: bytes) -> tuple[int, int] | None:
        """Height and width of an RGB JPEG file from its header, ``None`` if PIL treats it in its own way."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                return (image.height, image.width) if image.mode == 'RGB' == self.loader.mode else None
        except Exception:  # the decoder says what is wrong with it
            return None
