"""Weights of a timm model from a file: read safely, every tensor accounted for."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.checkpoints import TIMM_PREFIX, read_checkpoint, unwrap_state_dict
from mmselfsup_graft.checkpoints.finite_values import check_weights
from mmselfsup_graft.checkpoints.unplaced_tensors import changes_features
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.errors import CheckpointError

_HF = 'hf:'
_HF_FILES = ('model.safetensors', 'pytorch_model.bin')
#: before the names of a model that was wrapped, and of the backbone of a run of this toolbox
_WRAPPERS = ('module.', '_orig_mod.', 'backbone.', TIMM_PREFIX)


def load_timm_weights(model: nn.Module, source: str) -> str:
    """Load weights under timm's names, or those of a release that timm converts, into a timm model.

    Position tables of another image size are resized by timm. What is not part of the features (classifier, decoder,
    mask token) may be left over; everything else must be there and fit.

    Args:
        model: The model, without a classifier.
        source: A file, ``zoo:NAME``, or ``hf:OWNER/REPOSITORY`` in the local cache of Hugging Face.

    Returns:
        A line for the log that counts the tensors.

    Raises:
        CheckpointError: If the file cannot be read, or a tensor is missing, left over or has another shape.
    """
    path = local_file(source)
    given = _unwrapped(read_state(path))
    check_weights(path, given)
    found = _converted(model, given, path)
    own = model.state_dict()
    missing = [name for name in own if name not in found and not name.endswith('num_batches_tracked')]
    left = [name for name in found if name not in own]
    extra = [name for name in left if changes_features(name, staged=False) and not _in_classifier(model, name)]
    other = [
        f'{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}'
        for name, value in found.items()
        if name in own and value.shape != own[name].shape
    ]
    for names, words in ((missing, 'lacks'), (extra, 'has besides'), (other, 'has in another shape')):
        if names:
            shown = ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
            raise CheckpointError(
                f'{path} does not fit {type(model).__name__} of timm: it {words} {shown}; give a file of this '
                "architecture in timm's names, or use graft=[dict(checkpoint=...)] for a file of another library"
            )
    model.load_state_dict({name: value for name, value in found.items() if name in own}, strict=False)
    kept = {id(value) for value in found.values()}
    unused = [name for name, value in given.items() if name not in found and id(value) not in kept]
    notes = [f'not part of its features: {", ".join(left)}'] if left else []
    notes += [f'converted or left out by timm: {", ".join(unused)}'] if unused else []
    return '; '.join([f'{len(found) - len(left)} tensors from {path}', *notes])


def local_file(source: str) -> str:
    """The path of the file that ``source`` means; see :func:`load_timm_weights`.

    Raises:
        CheckpointError: If it is not there.
    """
    if not source.startswith(_HF):
        return resolve_zoo(source)
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = source.removeprefix(_HF).partition('@')
    for name in _HF_FILES:
        try:
            found = try_to_load_from_cache(repository, name, revision=revision or None)
        except ValueError as error:  # not the name of a repository
            raise CheckpointError(f'{source}: {error}') from error
        if isinstance(found, str):
            return found
    raise CheckpointError(
        f'{source} is not in the local cache of Hugging Face, and nothing is downloaded here; run '
        f'`hf download {repository}` where there is a network, copy the folder and set HF_HOME, or give the path of '
        f'its {_HF_FILES[0]}'
    )


def read_state(path: str) -> dict[str, torch.Tensor]:
    """Tensors of a file, read as plain data."""
    if not Path(path).is_file():
        raise CheckpointError(f'{path} not found; pretrained takes a file, zoo:NAME or hf:OWNER/REPOSITORY')
    return unwrap_state_dict(read_checkpoint(path), origin=os.fspath(path))


def _unwrapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of the model alone: of a run of this toolbox its backbone, without prefixes that wrappers add."""
    for prefix in _WRAPPERS:
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if inner and (prefix in ('backbone.', TIMM_PREFIX) or len(inner) == len(state)):
            state = inner
    return state


def _converted(model: nn.Module, state: dict[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """The state under the names of timm's model: as it is, or by timm's own filter for other sizes and releases."""
    if all(name in state and state[name].shape == value.shape for name, value in model.state_dict().items()):
        return state
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if convert is None:
        return state
    try:
        found = convert(dict(state), model)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, AssertionError, AttributeError) as error:
        raise CheckpointError(
            f'{path}: timm cannot convert it for {type(model).__name__} ({type(error).__name__}: {error})'
        ) from error
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def _in_classifier(model: Any, name: str) -> bool:
    """Whether the tensor belongs to the classifier that timm states for this model."""
    told = model.pretrained_cfg.get('classifier') if isinstance(model.pretrained_cfg, Mapping) else None
    heads = [told] if isinstance(told, str) else list(told or ())
    return any(name.startswith(f'{head}.') for head in heads)
