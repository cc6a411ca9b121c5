"""Reading an image into PIL, the form that the torchvision transforms of the published recipes work on."""

import io
import os
from typing import IO, Any

import mmengine.fileio
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmselfsup_graft.datasets.image_modes import Mode, UnknownRange, to_rgb
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import TRANSFORMS
from mmselfsup_graft.utils.files import open_regular, why_not_regular

_MODES: dict[int, Mode] = {1: 'L', 3: 'RGB'}


class CorruptImage(Exception):
    """An image cannot be read. Internal: the dataset turns it into a replacement or into a ``DataError``."""


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Turn ``img_path``, encoded ``img_bytes`` or an in-memory ``img`` into a PIL image in ``results['img']``.

    Args:
        channels: 3 for mode ``RGB``, 1 for mode ``L``; images of another mode are converted, see
            :func:`mmselfsup_graft.datasets.image_modes.to_rgb`.
        backend_args: Arguments of mmengine's file backend; ``None`` reads the local file system.

    An in-memory ``img`` is a uint8 array of shape (H, W), (H, W, 1) or (H, W, 3) in RGB order and wins over
    ``img_bytes``, the content of an image file, and that over ``img_path``.

    Raises:
        ConfigError: ``channels`` is neither 1 nor 3.
        CorruptImage: The image is missing, truncated, in no known format, or has pixels of unknown range.
    """

    def __init__(self, channels: int = 3, backend_args: dict[str, Any] | None = None) -> None:
        if channels not in _MODES:
            raise ConfigError(f'LoadImage: channels is {channels!r}, expected 3 (RGB) or 1 (gray)')
        self.mode = _MODES[channels]
        self.backend_args = backend_args

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put the PIL image into ``img``."""
        array, content = results.get('img'), results.pop('img_bytes', None)
        image = self._read(results.get('img_path', ''), content) if array is None else _from_array(array)
        results['img'] = image if image.mode == self.mode else image.convert(self.mode)
        return results

    def _read(self, path: str, content: bytes | None) -> Image.Image:
        if content is None and self.backend_args is None:
            return self.decode(path)
        return self.decode(io.BytesIO(self.read_bytes(path) if content is None else content))

    def read_bytes(self, path: str) -> bytes:
        """Read a file by the backend; of the local file system only a regular one.

        Raises:
            CorruptImage: It cannot be read.
        """
        try:
            if self.backend_args is None:
                with open_regular(path) as file:
                    return file.read()
            if os.path.exists(path) and (reason := why_not_regular(path)):
                raise OSError(f'{path} {reason}')
            return mmengine.fileio.get(path, self.backend_args)
        except Exception as error:  # backends raise nearly every kind
            raise CorruptImage(f'{type(error).__name__}: {error}') from error

    def decode(self, source: str | io.BytesIO) -> Image.Image:
        """Read a file, or its bytes, as an image of the wanted mode.

        Raises:
            CorruptImage: The image is missing, truncated or in no known format.
        """
        file: IO[bytes] | None = None
        try:
            file = open_regular(source) if isinstance(source, str) else source
            with file, Image.open(file) as image:
                return to_rgb(image, self.mode)  # reads all pixels, so a truncated file fails here
        except UnknownRange as error:
            raise CorruptImage(str(error)) from error
        except Exception as error:  # PIL's plugins raise nearly every kind on damaged input
            said = str(error).replace(f' {file!r}', '') if file else str(error)  # PIL names what it was given
            raise CorruptImage(f'{type(error).__name__}: {said}') from error

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mode={self.mode!r})'


def _from_array(array: np.ndarray) -> Image.Image:
    """View a uint8 array (H, W), (H, W, 1) or (H, W, 3) as a PIL image."""
    if array.dtype != np.uint8:
        raise CorruptImage(f'in-memory image has dtype {array.dtype}, expected uint8')
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise CorruptImage(f'in-memory image has shape {array.shape}, expected (H, W), (H, W, 1) or (H, W, 3)')
    return Image.fromarray(array)
