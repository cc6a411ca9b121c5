"""A compiled pipeline: decode, draw, compute what is to be computed here, and pack."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from mmpretrain.structures import DataSample

from mmselfsup_graft.errors import ConfigError

from . import cpu_ops
from .decode import JPEG_START, Decoder
from .steps import Crop, Flip, Step

Rows = dict[str, torch.Tensor]

#: modes in which the device decodes; all the same here, they name what decodes there
DECODING_THERE = ('nvjpeg', 'dali')


class View:
    """The steps from the decoded image to one view of it.

    Args:
        steps: In their order.
        mode: Which of them are left to the device that trains: none (``'cpu'``), those after the last one that must be
            done here (``'device'``), all (``'nvjpeg'``, ``'dali'``).

    Raises:
        ConfigError: The device is to decode and the steps do not begin with a crop, or a later one must be done here.
    """

    def __init__(self, steps: Sequence[Step], mode: str) -> None:
        needed = [number for number, step in enumerate(steps) if not step.deferrable]
        if mode in DECODING_THERE:
            if needed != [0] or not isinstance(steps[0], Crop):
                raise ConfigError(
                    f"fast='{mode}' decodes on the device and needs views of RandomResizedCrop, then what can be left "
                    "to it only; take 'device'"
                )
            here = 0
        else:
            here = len(steps) if mode == 'cpu' else max(needed, default=-1) + 1
        self.here, self.deferred = tuple(steps[:here]), tuple(steps[here:])
        # trailing flips are quicker plane by plane
        self.flips = tuple(takewhile(lambda step: isinstance(step, Flip), reversed(self.here)))
        self.here = self.here[: len(self.here) - len(self.flips)]

    def __call__(self, image: np.ndarray) -> tuple[torch.Tensor, Rows]:
        """Return the view, uint8 (C, H, W), and the rows of what is left to do.

        Args:
            image: uint8 (H, W, 3) or (H, W).
        """
        for step in self.here:
            drawn = step.draw(*image.shape[:2])
            if drawn is not None:
                image = step.apply(image, drawn)
        planes = cpu_ops.planes(image)
        for step in self.flips:
            if step.draw(*planes.shape[1:]) is not None:
                planes = cpu_ops.flip_planes(planes)
        return torch.from_numpy(planes), self.draw(*planes.shape[1:])

    def draw(self, height: int, width: int) -> Rows:
        """Draw what is left to the device, for an image of this size: ``'<number>.<operation>'`` -> (K,) float32."""
        rows: Rows = {}
        size = (height, width)
        for step in self.deferred:
            for name, values in step.rows(step.draw(*size), size):
                rows[f'{len(rows)}.{name}'] = torch.as_tensor(values)
            size = step.size_after(size)
        return rows


class FastPipeline:
    """Everything from a sample of the dataset to what is collated, in place of a list of transforms.

    The result is a dict of

    - ``inputs``: uint8 (C, H, W), or a list of them, one per view; with ``'nvjpeg'`` and ``'dali'`` the bytes of the
      file,
    - ``augment``, unless everything is done here: per view a dict of rows, see :meth:`View.draw`,
    - ``source``, with these only: (4,) float32; 1 for a JPEG file and 0 for the bytes of the pixels (H, W, C), then H,
      W and C,
    - ``decoder``, with these only: ``'nvjpeg'`` or ``'dali'``,
    - ``data_samples``: a ``DataSample``, with the label if there is one.

    Args:
        decoder: Reads the image.
        views: One per view.
        several: Give a list of views; otherwise there is one view.
        mode: ``'cpu'``, ``'device'``, ``'nvjpeg'`` or ``'dali'``.
    """

    def __init__(self, decoder: Decoder, views: Sequence[View], several: bool, mode: str) -> None:
        self.decoder, self.views, self.several, self.mode = decoder, tuple(views), several, mode

    def __call__(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sample.

        Raises:
            CorruptImage: The image cannot be read.
        """
        sample = self._encoded(info) if self.mode in DECODING_THERE else self._computed(info)
        sample['data_samples'] = DataSample()  # always: samples with and without a label may meet in a batch
        if 'gt_label' in info:
            sample['data_samples'].set_gt_label(info['gt_label'])
        return sample

    def _computed(self, info: Mapping[str, Any]) -> dict[str, Any]:
        image = self.decoder(info)
        views, rows = zip(*(view(image) for view in self.views))
        sample: dict[str, Any] = {'inputs': list(views) if self.several else views[0]}
        if any(rows):
            sample['augment'] = list(rows) if self.several else rows[0]
        return sample

    def _encoded(self, info: Mapping[str, Any]) -> dict[str, Any]:
        data, height, width = self._source(info)
        channels = 0.0
        if data is None:
            image = self.decoder(info)
            height, width = image.shape[:2]
            data, channels = image.tobytes(), float(image.size // (height * width))
        source = torch.tensor([float(not channels), height, width, channels or self.decoder.channels])
        rows = [view.draw(height, width) for view in self.views]
        augment = rows if self.several else rows[0]
        return {'inputs': data, 'source': source, 'decoder': self.mode, 'augment': augment}

    def _source(self, info: Mapping[str, Any]) -> tuple[bytes | None, int, int]:
        """Bytes and size of a whole JPEG file that the device can decode."""
        if info.get('img') is None:
            data = self.decoder.read(info)
            if data[:2] == JPEG_START and data.rstrip(b'\0')[-2:] == b'\xff\xd9':
                size = self.decoder.jpeg_size(data)
                if size is not None:
                    return data, *size
        return None, 0, 0

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.mode!r}, {len(self.views)} views)'
