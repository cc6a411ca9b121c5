"""Reading and writing checkpoint files safely.

Reading never runs code from the file unless the caller says so, writing never leaves half a file behind.
"""

import argparse
import hashlib
import json
import os
import pickle
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from ..files import open_regular, whole_file

_SAFETENSORS = '.safetensors'
_SUFFIXES = ('.pth', '.pt', '.tar', '.bin', _SAFETENSORS)


class OpaqueRecord:
    """Stands for an object of a foreign class in a checkpoint: its attributes are kept, none of its code is run."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def _attribute_name(owner: Any, name: str) -> str:
    """Stand-in for ``getattr`` while unpickling: it names the attribute instead of fetching it."""
    return f'{getattr(owner, "__name__", owner)}.{name}'


def _harmless_globals() -> list[Any]:
    """Globals found in the checkpoints of MAE, iBOT, DINO and mmengine that carry data and no behaviour."""
    dtypes = [type(np.dtype(kind)) for kind in ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u4', 'u8', '?')]
    core = np._core if hasattr(np, '_core') else np.core  # moved in numpy 2
    arrays: list[Any] = [np.ndarray, np.dtype, core.multiarray._reconstruct, core.multiarray.scalar, *dtypes]
    for function in (core.multiarray._reconstruct, core.multiarray.scalar):
        # files written by numpy 1 and numpy 2 name the same function differently
        arrays += [(function, f'numpy.{home}.multiarray.{function.__name__}') for home in ('core', '_core')]
    return [
        *arrays,
        slice,
        defaultdict,
        argparse.Namespace,
        OpaqueRecord,
        (OpaqueRecord, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_attribute_name, 'builtins.getattr'),
    ]


def read_checkpoint(path: str | os.PathLike, unsafe_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint file onto the CPU.

    Args:
        path: A file written by ``torch.save``, or a ``.safetensors`` file, which cannot hold code.
        unsafe_pickle: Allow the file to run code while it is read. Only for files whose origin you trust.

    Returns:
        The mapping at the top of the file.

    Raises:
        CheckpointError: If there is no such file, it is damaged, needs code to be run, or holds no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} does not exist (or is not a file); check the path')
    if path.suffix == _SAFETENSORS:
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            content = torch.load(path, map_location='cpu', weights_only=not unsafe_pickle)  # nosec B614 # asked for by name
    except pickle.UnpicklingError as error:
        raise CheckpointError(_explain_unpickling(path, str(error))) from error
    except (ImportError, AttributeError) as error:
        if not unsafe_pickle:
            raise CheckpointError(_damaged(path, error)) from error
        raise CheckpointError(
            f'checkpoint {path} needs a class that is not installed here ({_first_line(error)}); install what it was '
            'written with, or save its tensors alone there'
        ) from error
    except Exception as error:  # a damaged archive fails in any way
        raise CheckpointError(_damaged(path, error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f'checkpoint {path} holds a {type(content).__name__}, expected a dict of tensors')
    return dict(content)


def _damaged(path: Path, error: BaseException) -> str:
    return f'checkpoint {path} is damaged or no PyTorch file ({_first_line(error)}); copy or download it again'


def _read_safetensors(path: Path) -> dict[str, Any]:
    load_file = _safetensors().load_file
    try:
        return dict(load_file(path))
    except Exception as error:  # its own exception types are no part of its interface
        raise CheckpointError(
            f'checkpoint {path} is damaged or no safetensors file ({_first_line(error)}); copy or download it again'
        ) from error


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise CheckpointError(
            'reading and writing .safetensors files needs the package safetensors: pip install safetensors'
        ) from error
    return safetensors.torch


def _explain_unpickling(path: Path, message: str) -> str:
    blocked = message.partition('GLOBAL ')[2].split(' ')[0]
    if not blocked:
        blocked = message.partition('Unsupported class ')[2].split(' ')[0]
    if blocked:
        return (
            f'checkpoint {path} was not read: it would run code while being read ({blocked}); if you trust where it '
            'comes from, say so: --unsafe-pickle of the converters, dict(checkpoint=..., unsafe_pickle=True) in a graft'
        )
    return f'checkpoint {path} is damaged or no PyTorch file; check the path, or copy or download it again'


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    if len(text) < 8:  # a bare number or name tells nothing
        return type(error).__name__
    return text.splitlines()[0][:160] if text else type(error).__name__


def check_fit(filename: str | os.PathLike, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare the tensors of a file with those of the model that shall take them all.

    Args:
        filename: For the message.
        given: State dict of the file.
        wanted: State dict of the model.

    Raises:
        CheckpointError: If one is missing, unknown to the model or of another shape.
    """
    problems = [f'{name} is missing' for name in wanted if name not in given]
    problems += [f'{name} is not in the model' for name in given if name not in wanted]
    problems += [
        f'{name} has shape {tuple(given[name].shape)}, the model has {tuple(wanted[name].shape)}'
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise CheckpointError(f'{filename} does not fit this model: {"; ".join(problems[:3])}{more}')


def save_atomically(content: Any, path: str | os.PathLike) -> None:
    """Write ``content`` with ``torch.save``, see :func:`mmselfsup_graft.files.whole_file`."""
    with whole_file(path) as file:
        torch.save(content, file)


def save_weights(
    state: Mapping[str, torch.Tensor],
    meta: Mapping[str, Any],
    path: str | os.PathLike,
    overwrite: bool = False,
    hash_name: bool = False,
) -> Path:
    """Write weights and what is known about them, see :func:`mmselfsup_graft.files.whole_file`.

    Args:
        state: Name -> tensor.
        meta: Plain values, kept under ``meta``; in a ``.safetensors`` file as JSON in its header.
        path: The file; its suffix decides on the kind.
        overwrite: Replace a file that is there.
        hash_name: Append ``-`` and 8 hex digits of the file's SHA-256 to its name, as ``torch.hub`` checks it.

    Returns:
        The path that was written.

    Raises:
        CheckpointError: If there is such a file, or the package safetensors is needed and missing.
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
                raise CheckpointError(f'{final} exists already, with this very content')
            os.replace(draft, final)
        finally:
            draft.unlink(missing_ok=True)
        return final
    content = _own_storages(state)
    try:
        with whole_file(path, overwrite) as file:
            if path.suffix == _SAFETENSORS:
                file.write(_safetensors().save(content, {'format': 'pt', 'meta': json.dumps(meta)}))
            else:
                torch.save({'state_dict': content, 'meta': dict(meta)}, file)
    except FileExistsError as error:
        raise CheckpointError(f'{path} exists; choose another name, or say --overwrite to replace it') from error
    except RuntimeError as error:  # what torch says when a write fails
        raise CheckpointError(f'{path} could not be written ({_first_line(error)}); is the disk full?') from error
    return path


def _own_storages(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which each is alone in its storage: a part of a larger one would be written with the rest of it."""
    content, seen = {}, set()
    for name, tensor in state.items():
        storage = tensor.untyped_storage()
        alone = storage.nbytes() == tensor.numel() * tensor.element_size() and storage.data_ptr() not in seen
        content[name] = tensor.contiguous() if alone else tensor.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
    return content


def check_destination(source: str | os.PathLike, destination: str | os.PathLike, overwrite: bool) -> None:
    """Refuse to write weights where that would lose something or fail.

    Raises:
        CheckpointError: If the destination is the source, a link, a folder, of no known kind, or there already.
    """
    source, destination = Path(source), Path(destination)
    if destination.suffix not in _SUFFIXES:
        raise CheckpointError(f'{destination} has none of the suffixes {", ".join(_SUFFIXES)}; give it one')
    if any(parent.exists() and not parent.is_dir() for parent in destination.parents):
        raise CheckpointError(f'{destination} cannot be written: a part of its path is a file')
    if destination.is_symlink():
        raise CheckpointError(f'{destination} is a symbolic link; name the file that it points to, or remove it')
    if destination.is_dir():
        raise CheckpointError(f'{destination} is a folder; name a file in it')
    if destination.exists() and destination.samefile(source):
        raise CheckpointError(f'{destination} is the file that is read; choose another name')
    if destination.exists() and not overwrite:
        raise CheckpointError(f'{destination} exists; choose another name, or say --overwrite to replace it')


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
