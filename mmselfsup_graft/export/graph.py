"""An encoder as a graph for other runtimes: ONNX, or a program of ``torch.export``, with its outputs checked."""

import contextlib
import importlib.util
import io
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from torch import nn

from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.embedding.raw_images import as_pixels, image_files
from mmselfsup_graft.evaluation.pooling import encode_images
from mmselfsup_graft.utils.files import whole_file
from mmselfsup_graft.version import __version__

from .output_check import TOLERANCE, check_outputs
from .source_model import SourceModel, source_model

#: of the ONNX files
OPSET = 18
INPUT = 'images'
_ONNX_PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
_MOST_BYTES = 2**31  # of an ONNX file, which is one protobuf message
_REAL = 8  # images of a folder that are compared
_RANDOM_BATCHES = (1, 3)

_Runner = Callable[[bytes, torch.Tensor], torch.Tensor]


class PixelModel(nn.Module):
    """From raw pixels to the output: normalization, encoder, feature, and classifier if there is one.

    Args:
        model: What is exported.
    """

    mean: torch.Tensor
    std: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, model: SourceModel) -> None:
        super().__init__()
        self.backbone, self.feature = model.encoder.backbone, model.feature
        self.register_buffer('mean', torch.tensor(model.mean).view(1, -1, 1, 1))
        self.register_buffer('std', torch.tensor(model.std).view(1, -1, 1, 1))
        head = model.classifier
        self.register_buffer('weight', None if head is None else head.weight.float())
        self.register_buffer('bias', None if head is None else head.bias.float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, D], or logits [B, C], of images [B, C, H, W], float32 in 0..255."""
        normalized = (images - self.mean) / self.std
        feature = encode_images(self.backbone, normalized, (self.feature,))[self.feature]
        return feature if self.weight is None else F.linear(feature, self.weight, self.bias)


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: The file.
        difference: Largest difference of its outputs from those of torch, relative to the largest one.
        about: What a user must know, also stored in the file.
    """

    path: Path
    difference: float
    about: dict[str, Any]

    def text(self) -> str:
        """Lines to show."""
        shape = ', '.join(map(str, self.about['input'][1:]))
        lines = [
            f'{self.path}: {INPUT} [batch, {shape}], float32 in 0..255 (the graph normalizes them) -> '
            f'{self.about["output"]}, {self.about["feature"].replace("_", " ")}',
            f'outputs for random and real images differ from those of torch by at most {self.difference:.1e} of the '
            f'largest (accepted: {TOLERANCE:g})',
        ]
        if 'opset' in self.about:
            lines.append(f'ONNX opset {self.about["opset"]}')
        return '\n'.join(lines)


def export_graph(
    checkpoint: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    images: str | os.PathLike | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Exported:
    """Write the encoder of a checkpoint as ``.onnx``, or as ``.pt2`` of ``torch.export``.

    The graph takes raw pixels ``images`` [B, C, H, W], float32 in 0..255, of any batch size, and normalizes them. Its
    outputs for random and real images are compared with those of torch; a file that differs by more than
    :data:`.output_check.TOLERANCE` is not written.

    Args:
        checkpoint: File of any known format, or ``zoo:NAME``.
        destination: The file to write.
        images: Folder or image of which up to 8 images are compared; None takes three photographs of scikit-image.
        overwrite: Replace an existing file.
        **options: ``source``, ``feature``, ``size``, ``normalization``, ``classifier`` of
            :func:`.source_model.source_model`.

    Raises:
        CheckpointError: If the checkpoint cannot be read, the graph cannot be made, its outputs differ, or the
            destination exists.
        ConfigError: If the suffix is another one, or a package that ONNX needs is not installed.
    """
    path = Path(destination)
    kind = _KINDS.get(path.suffix)
    if kind is None:
        raise ConfigError(f'{path} must end in {" or ".join(_KINDS)}')
    make, run = kind
    if path.suffix == '.onnx':
        _need_onnx()
    if path.exists() and not overwrite:
        raise CheckpointError(f'{path} exists; choose another name, or use --overwrite to replace it')
    model = source_model(checkpoint, **options)
    pixels = PixelModel(model).eval()
    about = _about(model)
    content = make(pixels, about)
    difference = _check(path.name, content, run, pixels, _batches(model, images))
    try:
        with whole_file(path, overwrite) as file:
            file.write(content)
    except FileExistsError as error:
        raise CheckpointError(f'{path} exists; choose another name, or use --overwrite to replace it') from error
    return Exported(path, difference, about)


def _need_onnx() -> None:
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f'export to ONNX needs {", ".join(missing)}: pip install {" ".join(missing)}')


def _about(model: SourceModel) -> dict[str, Any]:
    head = model.classifier
    return {
        'tool': f'mmselfsup_graft {__version__}',
        'checkpoint': model.path.name,
        'checkpoint_sha256': model.sha256,
        'input': ['batch', len(model.mean), *model.size],
        'output': 'features' if head is None else 'logits',
        'feature': model.feature,
        'mean': list(model.mean),
        'std': list(model.std),
        **({} if head is None else {'classes': list(head.classes)}),
    }


# ---------------------------------------------------------------- images for the check
def _batches(model: SourceModel, images: str | os.PathLike | None) -> list[torch.Tensor]:
    """Raw pixels: random ones in batches of several sizes, and real ones."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(model.mean), *model.size)
    random = [255 * torch.rand(count, *shape, generator=generator) for count in _RANDOM_BATCHES]
    return [*random, as_pixels(_real_images(images), model.encoder.pipeline).float()]


def _real_images(images: str | os.PathLike | None) -> Sequence[Path | np.ndarray]:
    if images is None:
        return [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    return image_files([Path(images)], _REAL)[:_REAL]


@torch.no_grad()
def _check(name: str, content: bytes, run: _Runner, pixels: nn.Module, batches: Sequence[torch.Tensor]) -> float:
    return max(check_outputs(run(content, batch), pixels(batch), name) for batch in batches)


# ---------------------------------------------------------------- kinds of files
def _program(pixels: nn.Module, about: dict[str, Any]) -> torch.export.ExportedProgram:
    """The traced program, for any batch size."""
    example = torch.zeros(2, *about['input'][1:])
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.export.export(
                pixels, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim('batch')}}, strict=False
            )
    except Exception as error:  # torch.export has no common class of errors
        raise CheckpointError(
            f'torch.export cannot trace this encoder for any batch size: {_first_line(error)}'
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:300] if lines else ""}'


def _make_pt2(pixels: nn.Module, about: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.export.save(_program(pixels, about), file, extra_files={'mmselfsup_graft.json': json.dumps(about)})
    return file.getvalue()


def _run_pt2(content: bytes, images: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about buffers that it does not write
        return torch.export.load(io.BytesIO(content)).module()(images)


def _make_onnx(pixels: nn.Module, about: dict[str, Any]) -> bytes:
    about['opset'] = OPSET
    size = sum(value.numel() * value.element_size() for value in pixels.state_dict().values())
    if size >= _MOST_BYTES:
        raise CheckpointError(f'its {size:,} bytes of weights are more than an ONNX file holds (2 GiB); use .pt2')
    program = _program(pixels, about)
    output = about['output']
    try:
        with contextlib.redirect_stdout(None), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            made: Any = torch.onnx.export(
                program, (), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[output], verbose=False
            )
    except Exception as error:  # the exporter has no common class of errors
        raise CheckpointError(f'torch cannot write this encoder as ONNX: {_first_line(error)}') from error
    made.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    return made.model_proto.SerializeToString()


def _run_onnx(content: bytes, images: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    (output,) = session.run(None, {INPUT: images.numpy()})
    return torch.from_numpy(output)


_KINDS: dict[str, tuple[Callable[[nn.Module, dict[str, Any]], bytes], _Runner]] = {
    '.onnx': (_make_onnx, _run_onnx),
    '.pt2': (_make_pt2, _run_pt2),
}
