"""The record ``done.json`` of a finished stage of a recipe; it is checked before it is used."""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.errors import CheckpointError, DataError, GraftError
from mmselfsup_graft.utils.files import read_json

REPEAT = 'remove it and run the recipe again'  # advice about a damaged note of a stage
_NAME_LENGTH = 200


def _is_name(value: Any) -> bool:
    """Whether this is the name of a checkpoint in the stage's folder."""
    plain = type(value) is str and value.isprintable() and len(value) <= _NAME_LENGTH
    return plain and value.endswith('.pth') and PurePath(value).name == value


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**53


def _are_texts(value: Any) -> bool:
    return type(value) is list and all(type(each) is str and each.isprintable() for each in value)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'checkpoint': (_is_name, 'the name of a checkpoint in this folder'),
    'sha256': (lambda value: type(value) is str and len(value) == 64, '64 digits'),
    'fingerprint': (lambda value: type(value) is str, 'text'),
    'seconds': (_is_amount, 'a number from 0'),
    'cpu_seconds': (_is_amount, 'a number from 0'),
    'iterations': (_is_amount, 'a number from 0'),
    'notes': (_are_texts, 'a list of texts'),
    'results': (lambda value: type(value) is dict, 'results by protocol'),
}


def read_note(path: Path) -> dict[str, Any]:
    """Read a ``done.json``.

    Raises:
        DataError: If it is damaged, lacks both a checkpoint's name and results, or a value is of another kind.
    """
    done = read_json(path, REPEAT)
    if 'results' not in done:
        done = read_json(path, REPEAT, ('checkpoint',))
    seconds = done.get('cpu_seconds')
    if isinstance(seconds, float) and math.isnan(seconds):  # older versions wrote NaN if unknown
        del done['cpu_seconds']
    check_values(done, path)
    return done


def check_values(note: dict[str, Any], source: Path) -> None:
    """Raise an error for a note with a value of another kind.

    Args:
        note: Its content.
        source: Where it comes from, for the message.

    Raises:
        DataError: If there is one.
    """
    for key, (fits, expected) in _KINDS.items():
        if key in note and not fits(note[key]):
            said = f'{key} is {repr(note[key])[:60]}, expected {expected}'
            raise DataError(f'{str(source)!r} is damaged: {said}; {REPEAT}')


def check_hash(checkpoint: Path, done: dict[str, Any]) -> None:
    """Raise an error for a checkpoint that is not the one of the stage.

    Raises:
        GraftError: If it is another one, or is not recorded.
        CheckpointError: If there is no such file.
    """
    try:
        found = checkpoint.stat()
    except OSError as error:
        raise CheckpointError(
            f'{checkpoint} does not exist; put it back, or delete the folder of the stage and run the recipe again'
        ) from error
    if _hash(str(checkpoint), found.st_size, found.st_mtime_ns) != done.get('sha256'):
        raise GraftError(
            f'{checkpoint} is not the file of its stage: its SHA-256 differs from done.json. Put the file '
            'back, or delete the folder of the stage and run the recipe again'
        )


@lru_cache
def _hash(path: str, size: int, changed: int) -> str:
    """Hash of a file, computed again only if its size or modification time changed."""
    return file_sha256(path)
