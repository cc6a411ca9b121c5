"""A compiled pipeline: decode, draw, compute what is to be computed here, and pack."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from mmpretrain.structures import DataSample

from mmselfsup_graft.datasets.augment import Crop, Flip, Operation, Packed, Row, pack, pack_batch
from mmselfsup_graft.datasets.augment.flip import flip_planes
from mmselfsup_graft.datasets.augment.kernels import planes
from mmselfsup_graft.datasets.seeding import seed_torch
from mmselfsup_graft.errors import ConfigError

from .decode import JPEG_START, Decoder
from .gathered import Gathered, LazySamples

#: modes in which the device decodes; all the same here, they name what decodes there
DECODING_THERE = ('nvjpeg', 'dali')


class View:
    """The operations from the decoded image to one view of it.

    Args:
        operations: In their order.
        mode: Which of them are left to the device that trains: none (``'cpu'``), those after the last one that must be
            done here (``'device'``), all (``'nvjpeg'``, ``'dali'``).

    Raises:
        ConfigError: The device is to decode and the operations do not begin with a crop, or a later one must be done
            here.
    """

    def __init__(self, operations: Sequence[Operation], mode: str) -> None:
        needed = [number for number, each in enumerate(operations) if not each.deferrable]
        if mode in DECODING_THERE:
            if needed != [0] or not isinstance(operations[0], Crop):
                raise ConfigError(
                    f"fast='{mode}' decodes on the device and needs views of RandomResizedCrop, then what can be left "
                    "to it only; take 'device'"
                )
            here = 0
        else:
            here = len(operations) if mode == 'cpu' else max(needed, default=-1) + 1
        self.here, self.deferred = tuple(operations[:here]), tuple(operations[here:])
        # trailing flips are quicker plane by plane
        self.flips = tuple(takewhile(lambda each: isinstance(each, Flip), reversed(self.here)))
        self.here = self.here[: len(self.here) - len(self.flips)]

    def __call__(self, image: np.ndarray) -> tuple[torch.Tensor, Packed]:
        """Return the view, uint8 (C, H, W), and what is left to do, see :meth:`draw`.

        Args:
            image: uint8 (H, W, 3) or (H, W).
        """
        for operation in self.here:
            drawn = operation.draw(*image.shape[:2])
            if drawn is not None:
                image = operation.apply(image, drawn)
        view = planes(image)
        for operation in self.flips:
            if operation.draw(*view.shape[1:]) is not None:
                view = flip_planes(view)
        return torch.from_numpy(view), self.draw(*view.shape[1:])

    def draw(self, height: int, width: int) -> Packed:
        """Draw what is left to the device, for an image of this size: packed rows, in the operations' order."""
        return pack(self.rows(height, width))

    def rows(self, height: int, width: int) -> list[Row]:
        """Draw as :meth:`draw` does."""
        rows: list[Row] = []
        size = (height, width)
        for operation in self.deferred:
            rows += operation.rows(operation.draw(*size), size)
            size = operation.size_after(size)
        return rows


class FastPipeline:
    """Everything from a sample of the dataset to what is collated, in place of a list of transforms.

    The result is a dict of

    - ``inputs``: uint8 (C, H, W), or a list of them, one per view; with ``'nvjpeg'`` and ``'dali'`` the bytes of the
      file,
    - ``augment``, unless everything is done here: packed rows, see :meth:`View.draw`, or a list of them, one per view,
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

    @property
    def gathers(self) -> bool:
        """Whether nothing is left to do image by image where all are arrays of one size, see :meth:`gather`."""
        return self.mode not in DECODING_THERE and not any(view.here or view.flips for view in self.views)

    def gather(self, images: np.ndarray, labels: np.ndarray | None, seeds: Iterable[int]) -> Gathered:
        """Return the samples of a batch.

        Args:
            images: uint8 (B, H, W) or (B, H, W, 3), with the channels that are wanted.
            labels: int64 (B,), or ``None``.
            seeds: For each image the seed of torch's generator for what is drawn.
        """
        tensor = torch.from_numpy(images)
        tensor = tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
        batch: dict[str, Any] = {'inputs': [tensor] * len(self.views) if self.several else tensor}
        rows = self._gathered_rows(images.shape[1], images.shape[2], seeds)
        if any(rows):
            batch['augment'] = rows if self.several else rows[0]
        batch['data_samples'] = LazySamples(len(images), labels)
        return Gathered(batch)

    def _gathered_rows(self, height: int, width: int, seeds: Iterable[int]) -> list[Packed]:
        """For each view its rows of a batch, packed."""
        drawn: list[list[list[Row]]] = [[] for _ in self.views]
        for seed in seeds if any(view.deferred for view in self.views) else ():
            seed_torch(seed)
            for view, samples in zip(self.views, drawn):
                samples.append(view.rows(height, width))
        return list(map(pack_batch, drawn))

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
