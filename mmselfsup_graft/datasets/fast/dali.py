"""Decode and crop a batch by NVIDIA DALI, on the GPU that trains or on the CPU.

DALI draws nothing here: the windows are those that travel with the batch. A pipeline of it decodes every file once,
cuts each view's window out and resizes it with antialiasing; what it returns is handed to torch without a copy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmselfsup_graft.datasets.augment import CropRow, of_images
from mmselfsup_graft.errors import ConfigError, DataError

from .encoded import decode_views

_GPU_THREADS = 4  # of the host, which read the files' headers and hand them to the decoder


def _build(capacity: int, views: int, device: torch.device) -> Any:
    """Make a DALI pipeline from ``files`` and ``window0``, ``window1`` ... to the views.

    Args:
        capacity: The largest batch.
        views: How many there are.
        device: Where to decode; the results lie there.

    Raises:
        ConfigError: DALI is not installed.
    """
    try:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline
    except ImportError as error:
        raise ConfigError(
            "fast='dali' decodes by NVIDIA DALI, which is not installed: bash tools/install.sh --dali, or take "
            "fast='nvjpeg', 'device' or 'cpu'"
        ) from error

    on_gpu = device.type == 'cuda'
    # one batch at a time: it is asked for when it is here, and its steps need not wait for one another
    pipeline = Pipeline(
        batch_size=capacity,
        num_threads=_GPU_THREADS if on_gpu else torch.get_num_threads(),
        device_id=_number_of(device) if on_gpu else None,
        prefetch_queue_depth=1,
    )
    with pipeline:
        images = fn.decoders.image(
            fn.external_source(name='files', ndim=1, dtype=types.UINT8),
            device='mixed' if on_gpu else 'cpu',
            output_type=types.RGB,
            adjust_orientation=False,  # as LoadImage
            jpeg_fancy_upsampling=True,  # as libjpeg, which PIL uses
        )  # (H, W, 3)
        results = []
        for view in range(views):
            top_left, sides, size, interpolation = _inputs_of(fn, types, view)
            # resize has a region of its own, but its filter also reads what lies around it
            cut = fn.slice(images, start=top_left, shape=sides, axes=[0, 1])
            resized = fn.resize(
                cut,
                size=fn.cast(size, dtype=types.FLOAT),
                interp_type=fn.cast(interpolation, dtype=types.INTERP_TYPE),  # DALI's order
                antialias=True,
            )
            results.append(fn.transpose(resized, perm=[2, 0, 1]))  # (3, h, w)
        pipeline.set_outputs(*results)
    return pipeline


def _inputs_of(fn: Any, types: Any, view: int) -> list[Any]:
    """Describe how a view's windows come in: what :func:`_packed` makes, taken apart."""
    packed = fn.external_source(name=f'window{view}', ndim=1, dtype=types.INT32)
    return [packed[0:2], packed[2:4], packed[4:6], packed[6]]  # upper left corner, sides, size, interpolation


def _packed(row: CropRow) -> np.ndarray:
    """One int32 array [B, 7]: window, size, interpolation."""
    return torch.cat([row.window, row.size, row.interpolation[:, None]], 1).int().numpy()


class DaliDecoder:
    """:func:`.encoded.decode_views` by DALI.

    It keeps a pipeline as long as batches fit: another number of views, another device or a larger batch need a new
    one; sizes and interpolations may change. A copy makes its own.
    """

    def __init__(self) -> None:
        self._pipeline: Any = None
        self._made_for: tuple[int, torch.device] | None = None

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), ()

    def __call__(
        self,
        files: Sequence[bytes],
        source: torch.Tensor,
        windows: Sequence[CropRow],
        device: torch.device,
    ) -> list[torch.Tensor]:
        """Decode the JPEG files and cut out of them every view; other files were decoded by the worker.

        Args:
            files: As :func:`.encoded.decode_views` takes it, as are the others.
            source: [B, 4] on the host.
            windows: For each view its windows of B images, on the host.
            device: Where to decode, a CUDA device or the CPU.

        Returns:
            For each view uint8 [B, C, h, w] on the device.

        Raises:
            ConfigError: DALI is not installed.
            DataError: A file cannot be decoded whole.
        """
        is_file = source[:, 0] != 0
        coded, plain = is_file.nonzero()[:, 0].tolist(), (~is_file).nonzero()[:, 0].tolist()
        parts = []
        if coded:
            parts.append(self._run([files[k] for k in coded], [of_images(row, coded) for row in windows], device))
        if plain:
            rows = [of_images(row, plain) for row in windows]
            parts.append(decode_views([files[k] for k in plain], source[plain], rows, device))
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(coded + plain).tolist()
        return [torch.stack([(*ours, *others)[k] for k in order]) for ours, others in zip(*parts)]

    def _run(self, files: list[bytes], windows: list[CropRow], device: torch.device) -> list[torch.Tensor]:
        pipeline = self._fitting(len(files), len(windows), device)
        inputs: dict[str, Any] = {f'window{view}': _packed(row) for view, row in enumerate(windows)}
        inputs['files'] = [np.frombuffer(file, np.uint8) for file in files]
        # on this stream the results are ready for whatever follows; the host does not wait for them
        stream = torch.cuda.current_stream(device) if device.type == 'cuda' else None
        try:
            results = pipeline.run(stream, **inputs)
        except RuntimeError as error:
            self._pipeline = None  # DALI's are of no use after an error
            raise DataError(
                f"a JPEG file of the batch cannot be decoded ({_reason(error)}); fast='dali' cannot replace it, "
                "fast='device' can"
            ) from error
        return [torch.from_dlpack(result.as_tensor()) for result in results]

    def _fitting(self, size: int, views: int, device: torch.device) -> Any:
        """The pipeline, a new one if the last does not fit."""
        if self._pipeline is None or self._made_for != (views, device) or size > self._pipeline.max_batch_size:
            self._pipeline = None  # its memory goes before there is another
            self._pipeline, self._made_for = _build(size, views, device), (views, device)
        return self._pipeline


def _number_of(device: torch.device) -> int:
    """Number of a CUDA device; without one it is that of this process."""
    return torch.cuda.current_device() if device.index is None else device.index


def _reason(error: RuntimeError) -> str:
    """What DALI says without the places in its code and ours, on one line."""
    _, found, rest = str(error).partition('encountered:')
    lines = [line.strip(' :') for line in (rest if found else str(error)).splitlines() if line.strip()]
    return lines[0] if lines else 'DALI gives no reason'
