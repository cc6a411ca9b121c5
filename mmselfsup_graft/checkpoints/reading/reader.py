"""Reading checkpoint files: no code of a file is run, and memory and time are bounded by its size.

The result is plain data (:mod:`.plain`): dicts, lists, tuples, numbers, text, tensors and arrays. Files of
``torch.save`` are read by this package (:mod:`.containers`, :mod:`.unpickling`), ``.safetensors`` files by their
own library.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.utils.files import open_regular

from .containers import load_file
from .plain import to_plain
from .stubs import ForeignCall, Refused, Stub, shown

SAFETENSORS = '.safetensors'
CONVERT = 'if you trust where it comes from, convert it with tools/model_converters/convert.py --unsafe-pickle'
"""Advice for a file of weights that would run code."""
CONVERT_OR_ALLOW = (
    f'{CONVERT}, or set unsafe_pickle=True beside checkpoint=... in model.graft (tools/test.py: --cfg-options '
    'evaluation.source.unsafe_pickle=True)'
)
"""The same advice for a file that is named in a config."""
ALLOW = 'if you trust where it comes from, add --unsafe-pickle'
"""The same advice for a command with that option."""
PUBLISH = (
    'if you trust where it comes from, tools/model_converters/publish_model.py --unsafe-pickle writes its weights alone'
)
"""The same advice for the weights of a whole model of another library."""
# of a model in Hugging Face's layout; its properties are in files of these names beside it
_HUB_NAMES = ('model.safetensors', 'pytorch_model.bin')
_BESIDE = ('config.json', 'preprocessor_config.json')
_MAX_META = 2**20  # bytes of such a file, characters of the metadata in a header of safetensors
_MAX_SAFETENSORS_HEADER = 16 * 2**20  # bytes; its library takes 100 MB, which is a million empty tensors


def read_checkpoint(path: str | os.PathLike, unsafe_pickle: bool = False, remedy: str = CONVERT) -> dict[str, Any]:
    """Read a checkpoint file onto the CPU.

    Objects of other classes become a dict of their attributes, sets become lists, and numpy scalars become Python
    numbers. Tensors that share storage in the file share it in the result.

    Args:
        path: A file written by ``torch.save``, or a ``.safetensors`` file; of a file of this toolbox the
            tensors are in ``state_dict`` and their metadata in ``meta``.
        unsafe_pickle: Allow the file to run code while it is read. Only for files from a trusted source.
        remedy: Advice about a file that would run code, for the message.

    Returns:
        The mapping at the top of the file, made of dicts, lists, tuples, numbers, text, bytes, plain tensors without
        gradient, and arrays of numbers; keys of dicts are text or whole numbers. Of a file in Hugging Face's layout
        (``model.safetensors``, ``pytorch_model.bin``), ``meta['files_beside']`` holds ``config.json`` and
        ``preprocessor_config.json`` if they are beside it.

    Raises:
        CheckpointError: If the file does not exist, is damaged, needs code to be run, does not hold a mapping, holds
            tensors that are quantized, sparse or on the meta device, or would take far more memory than its size.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} does not exist (or is not a file); check the path')
    try:
        content = _load(path, unsafe_pickle)
        if not isinstance(content, Mapping) and not (isinstance(content, Stub) and content.items is not None):
            raise CheckpointError(f'checkpoint {path} holds a {_kind(content)}, expected a dict of tensors')
        return _with_files_beside(path, to_plain(content, path.stat().st_size))
    except CheckpointError:
        raise
    except ForeignCall as error:
        raise CheckpointError(_explain_call(path, str(error), remedy)) from error
    except Refused as error:
        raise CheckpointError(f'checkpoint {path} was not read: {error}') from error
    except (ImportError, AttributeError) as error:
        if not unsafe_pickle:
            raise CheckpointError(_damaged(path, error)) from error
        raise CheckpointError(
            f'checkpoint {path} needs a class that is not installed ({first_line(error)}); install the package that '
            'wrote it, or save only its tensors there'
        ) from error
    except Exception as error:  # a damaged file can raise any error, also EINVAL for an offset outside of it
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise CheckpointError(f'checkpoint {path} cannot be read ({first_line(error)})') from error
        raise CheckpointError(_damaged(path, error)) from error


def read_state(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read the weights of a whole model out of a checkpoint of this toolbox.

    Args:
        path: The file.

    Returns:
        Name -> tensor: the content of ``state_dict``.

    Raises:
        CheckpointError: As for :func:`read_checkpoint`, and if there are no weights.
    """
    state = read_checkpoint(path, remedy='a checkpoint of a training run of this toolbox never does').get('state_dict')
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f'{path} is not a checkpoint of a training run of this toolbox (no tensors in state_dict)'
        )
    return state


def _load(path: Path, unsafe_pickle: bool) -> Any:
    if path.suffix == SAFETENSORS:
        return _load_safetensors(path)
    if unsafe_pickle:
        return torch.load(path, map_location='cpu', weights_only=False)  # nosec B614 # the caller asked for it
    with open(path, 'rb') as file:
        return load_file(file)


def _load_safetensors(path: Path) -> dict[str, Any]:
    library = safetensors()
    with open(path, 'rb') as file:
        if int.from_bytes(file.read(8), 'little') > _MAX_SAFETENSORS_HEADER:
            raise ValueError('its header is too large')
    with library.safe_open(path, 'pt') as opened:
        meta = _own_meta((opened.metadata() or {}).get('meta', ''))
    state = library.load_file(path)
    return {'state_dict': state, 'meta': meta} if meta else state


def _with_files_beside(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content, with the JSON files beside a model in Hugging Face's layout.

    Raises:
        CheckpointError: If such a file cannot be read.
    """
    found = {}
    for name in _BESIDE if path.name in _HUB_NAMES and 'meta' not in content else ():
        beside = path.with_name(name)
        if not beside.is_file():
            continue
        try:
            with open_regular(beside) as file:
                text = file.read(_MAX_META + 1)
            if len(text) > _MAX_META:
                raise CheckpointError(
                    f'{beside}, which describes {path.name}, has more than {_MAX_META:,} bytes, expected a small JSON '
                    'file; check it, or move it away to read the tensors alone'
                )
            told = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f'{beside}, which describes {path.name}, is not a JSON file; repair it') from error
        found[name] = told if isinstance(told, dict) else {}
    if not found:
        return content
    bare = all(isinstance(value, torch.Tensor) for value in content.values())
    return {**({'state_dict': content} if bare else content), 'meta': {'files_beside': found}}


def _own_meta(text: str) -> dict[str, Any]:
    """Metadata that :func:`.io.save_weights` wrote into the header of a file; empty if there is none."""
    try:
        content = json.loads(text) if len(text) <= _MAX_META else None
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def safetensors() -> Any:
    """The torch part of the package safetensors.

    Raises:
        CheckpointError: If it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise CheckpointError(
            'reading and writing .safetensors files needs the package safetensors: pip install safetensors'
        ) from error
    return safetensors.torch


def _kind(content: Any) -> str:
    return shown(content.name) if isinstance(content, Stub) else type(content).__name__


def _damaged(path: Path, error: BaseException) -> str:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f'checkpoint {path} does not fit into the memory of this machine'
    kind = 'safetensors' if path.suffix == SAFETENSORS else 'PyTorch'
    return f'checkpoint {path} is damaged or not a {kind} file ({first_line(error)}); copy or download it again'


def _explain_call(path: Path, name: str, remedy: str) -> str:
    return f'checkpoint {path} was not read: it would run code while being read ({shown(name)}); {remedy}'


def first_line(error: BaseException) -> str:
    """The error in one line."""
    text = str(error).strip()
    if len(text) < 8:  # a bare number or name explains nothing
        return type(error).__name__
    return shown(text.splitlines()[0]) if isinstance(error, UnicodeError) else text.splitlines()[0][:160]
