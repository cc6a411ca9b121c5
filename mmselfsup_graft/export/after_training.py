"""What to do with the encoder of a finished training: exact commands for other libraries."""

import importlib.util
import os
import shlex
from pathlib import Path

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import convert
from mmselfsup_graft.checkpoints.formats.encoder import detect_format
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.targets.target_check import target_model_of
from mmselfsup_graft.targets.target_model import NoTargetModel

from .convert_file import usage

_LIBRARIES = {'timm': ('timm', 'timm'), 'hf': ('Hugging Face', 'transformers'), 'mmdet': ('mmdet', 'mmdet')}


def next_steps(checkpoint: str | os.PathLike, command: str = 'graft convert') -> str | None:
    """Commands that bring the encoder of a checkpoint into timm, Hugging Face and mmdet.

    Only libraries that have a model of its shape are listed. Nothing is written.

    Args:
        checkpoint: File of a finished training.
        command: The command that converts.

    Returns:
        Text; None if the file holds no encoder of a known format.
    """
    path = Path(checkpoint)
    try:
        content = read_checkpoint(path)
        if detect_format(content) is None:
            return None
        parts = [part for target in _LIBRARIES if (part := _steps(content, path, target, command))]
    except CheckpointError:
        return None
    if not parts:
        return f'Your backbone is {path}; timm, Hugging Face and mmdet have no model of its shape.'
    return '\n\n'.join([f'Your backbone is {path}. Use it like this:', *parts])


def _steps(content: dict, path: Path, target: str, command: str) -> str | None:
    name, package = _LIBRARIES[target]
    destination = path.parent / f'backbone_{target}.pth'
    try:
        done = convert(content, str(path), target)
        target_model_of(done)
    except (NoTargetModel, CheckpointError):
        return None
    words = [*shlex.split(command), str(path), str(destination), '--to', target]
    missing = [] if importlib.util.find_spec(package) else [f'    pip install {package}']
    lines = usage(done, destination).splitlines()
    imports = _imports('\n'.join(lines)) if not done.target.by_mmengine else []
    lines = [*imports, *(line.removeprefix('use: ').removeprefix('     ') for line in lines)]
    indented = [f'    {"# " if line.startswith("with ") else ""}{line}' for line in lines]
    return '\n'.join([f'{name}:', *missing, f'    {shlex.join(words)}', *indented])


def _imports(code: str) -> list[str]:
    """The import statement of code that names what it takes by its full path."""
    known = ('functools', 'torch', 'timm.models', 'transformers', 'json', 'safetensors.torch')
    names = [each for each in known if f'{each}.' in code]
    names += ['timm'] if 'timm.create_model' in code else []
    return [f'import {", ".join(names)}'] if names else []
