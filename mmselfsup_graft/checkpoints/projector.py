"""The first layer of a pre-trained projector, as a start of fine-tuning."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmselfsup_graft.checkpoints.formats.encoder import StateDict, in_objective, locate
from mmselfsup_graft.checkpoints.reading.reader import CONVERT_OR_ALLOW, read_checkpoint
from mmselfsup_graft.errors import CheckpointError

from .finite_values import check_weights

_NORM = ('weight', 'bias', 'running_mean', 'running_var')


@dataclass(frozen=True)
class ProjectorStart:
    """First linear layer of a projector and the batch norm after it.

    Args:
        weight: [H, D] of the linear layer, which has no bias.
        norm: Weight, bias and running statistics [H] of the batch norm; None if the file has none.
        format: Name of the format of the file.
        origin: The file, for messages.
    """

    weight: torch.Tensor
    norm: StateDict | None
    format: str
    origin: str


def to_projector_start(
    content: Mapping[str, Any], origin: str, wanted: str = 'auto', branch: str | None = None
) -> ProjectorStart:
    """Extract the first layer of the projector from checkpoint content.

    Args:
        content: Result of :func:`read_checkpoint`.
        origin: File name for messages.
        wanted: A format name, or ``auto`` to detect it.
        branch: Encoder of the file whose projector is taken; None takes the format's first encoder.

    Raises:
        CheckpointError: If the format is unknown, the file has no projector, or its first layer has a bias.
    """
    located = locate(content, origin, wanted, branch)
    found, state = located.format, located.state
    parent = located.prefix.removesuffix('backbone.')
    linear, norm = (name.format(parent) for name in found.projector or ('', ''))
    linear, norm = (in_objective(f'{name}.', state, origin).removesuffix('.') for name in (linear, norm))
    weight = state.get(f'{linear}.weight')
    if weight is None or weight.ndim != 2:
        expected = f'{linear}.weight is missing' if found.projector else 'the format has none'
        raise CheckpointError(
            f'{origin} (format {found.name}) holds no projector ({expected}): fine-tuning from its first layer needs a '
            'checkpoint of contrastive pre-training; use a plain linear head for others'
        )
    if f'{linear}.bias' in state:
        raise CheckpointError(f'{origin}: the first layer of its projector has a bias, expected one without')
    inner = {part: state[f'{norm}.{part}'] for part in _NORM if f'{norm}.{part}' in state}
    check_weights(origin, {f'{linear}.weight': weight, **{f'{norm}.{part}': value for part, value in inner.items()}})
    return ProjectorStart(weight, inner if len(inner) == len(_NORM) else None, found.name, origin)


def read_projector_start(
    path: str | os.PathLike, wanted: str = 'auto', branch: str | None = None, unsafe_pickle: bool = False
) -> ProjectorStart:
    """Read a checkpoint file and extract the first layer of its projector; see :func:`to_projector_start`."""
    return to_projector_start(read_checkpoint(path, unsafe_pickle, CONVERT_OR_ALLOW), str(path), wanted, branch)
