"""Writing checkpoint files atomically, and comparing their content with a model."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmselfsup_graft.checkpoints.reading.reader import SAFETENSORS, first_line, safetensors
from mmselfsup_graft.errors import CheckpointError, NonFiniteWeightsError
from mmselfsup_graft.utils.files import open_regular, whole_file

from .finite_values import buffer_problem, is_finite, value_problem

_SUFFIXES = ('.pth', '.pt', '.tar', '.bin', SAFETENSORS)


def check_fit(filename: str | os.PathLike, given: Any, wanted: Mapping[str, Any]) -> None:
    """Compare the tensors of a file with those of the model that must take all of them.

    Args:
        filename: For the message.
        given: State dict of the file.
        wanted: State dict of the model.

    Raises:
        CheckpointError: If one is missing, unknown to the model, not a tensor, of another shape or dtype, or
            holds NaN or infinite values where the model has finite ones.
    """
    if not isinstance(given, Mapping):
        raise CheckpointError(f'{filename} does not fit this model: it has a {type(given).__name__} as state_dict')
    problems = [f'{name} is missing' for name in wanted if name not in given]
    problems += [f'{name} is not in the model' for name in given if name not in wanted]
    for name, model in wanted.items():
        if name in given and isinstance(given[name], torch.Tensor) and given[name].shape != model.shape:
            problems.append(f'{name} has shape {tuple(given[name].shape)}, the model has {tuple(model.shape)}')
    kind = CheckpointError
    if not problems:
        problems = [f'{name} {said}' for name, model in wanted.items() if (said := _misfit(name, given[name], model))]
        kind = NonFiniteWeightsError if any('NaN' in problem for problem in problems) else kind
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise kind(f'{filename} does not fit this model: {"; ".join(problems[:3])}{more}')


def _misfit(name: str, tensor: Any, model: torch.Tensor) -> str:
    """Why the values of a tensor cannot replace those of the model."""
    if isinstance(tensor, torch.Tensor) and not tensor.numel():
        return ''  # the model's tensor has no elements either
    problem = value_problem(tensor, whole=not model.is_floating_point())
    problem = '' if 'NaN' in problem and not is_finite(model) else problem
    return problem or buffer_problem(name, tensor, model)


def save_atomically(content: Any, path: str | os.PathLike) -> None:
    """Write ``content`` with ``torch.save``, see :func:`mmselfsup_graft.utils.files.whole_file`."""
    with whole_file(path) as file:
        torch.save(content, file)


def save_weights(
    state: Mapping[str, torch.Tensor],
    meta: Mapping[str, Any],
    path: str | os.PathLike,
    overwrite: bool = False,
    hash_name: bool = False,
) -> Path:
    """Write weights and their metadata, see :func:`mmselfsup_graft.utils.files.whole_file`.

    Args:
        state: Name -> tensor.
        meta: Plain values, kept under ``meta``; in a ``.safetensors`` file as JSON in its header.
        path: The file; its suffix selects the file format.
        overwrite: Replace an existing file.
        hash_name: Append ``-`` and 8 hex digits of the file's SHA-256 to its name, as ``torch.hub`` checks it.

    Returns:
        The path that was written.

    Raises:
        CheckpointError: If the file exists, or the package safetensors is needed and missing.
    """
    path = Path(path)
    if hash_name:
        ending = '.pth.tar' if path.name.endswith('.pth.tar') else path.suffix
        stem = path.name.removesuffix(ending)
        draft = path.with_name(f'.{stem}-{os.getpid()}{ending}')
        try:
            save_weights(state, meta, draft, overwrite=True)
            final = path.with_name(f'{stem}-{file_sha256(draft)[:8]}{ending}')
            if final.exists() and not overwrite:
                raise CheckpointError(f'{final} exists already with the same content')
            os.replace(draft, final)
        finally:
            draft.unlink(missing_ok=True)
        return final
    content = _own_storages(state)
    try:
        with whole_file(path, overwrite) as file:
            if path.suffix == SAFETENSORS:
                file.write(safetensors().save(content, {'format': 'pt', 'meta': json.dumps(meta)}))
            else:
                torch.save({'state_dict': content, 'meta': dict(meta)}, file)
    except FileExistsError as error:
        raise CheckpointError(f'{path} exists; choose another name, or use --overwrite to replace it') from error
    except RuntimeError as error:  # torch's error when a write fails
        raise CheckpointError(f'{path} could not be written ({first_line(error)}); the disk may be full') from error
    return path


def _own_storages(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors with their own storage: a view would be written with its whole storage."""
    content, seen = {}, set()
    for name, tensor in state.items():
        storage = tensor.untyped_storage()
        alone = storage.nbytes() == tensor.numel() * tensor.element_size() and storage.data_ptr() not in seen
        content[name] = tensor.contiguous() if alone else tensor.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
    return content


def check_destination(source: str | os.PathLike, destination: str | os.PathLike, overwrite: bool) -> None:
    """Raise an error if writing weights would replace a file or fail.

    Raises:
        CheckpointError: If the destination is the source, a link, a folder, has an unknown suffix, or exists.
    """
    source, destination = Path(source), Path(destination)
    if destination.suffix not in _SUFFIXES:
        raise CheckpointError(f'{destination} has none of the suffixes {", ".join(_SUFFIXES)}; use one of them')
    if any(parent.exists() and not parent.is_dir() for parent in destination.parents):
        raise CheckpointError(f'{destination} cannot be written: a part of its path is a file')
    if destination.is_symlink():
        raise CheckpointError(f'{destination} is a symbolic link; name the file that it points to, or remove it')
    if destination.is_dir():
        raise CheckpointError(f'{destination} is a folder; give a file in it')
    if destination.exists() and destination.samefile(source):
        raise CheckpointError(f'{destination} is the source file; choose another name')
    if destination.exists() and not overwrite:
        raise CheckpointError(f'{destination} exists; choose another name, or use --overwrite to replace it')


def file_sha256(path: str | os.PathLike) -> str:
    """Hash of a checkpoint's content, read in pieces.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            for piece in iter(lambda: file.read(1 << 20), b''):
                digest.update(piece)
    except OSError as error:
        raise CheckpointError(f'checkpoint {path} does not exist (or is not a file); check the path') from error
    return digest.hexdigest()
