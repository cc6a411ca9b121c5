"""Result rows: one line of JSON per score, with everything that is needed to repeat it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.errors import CheckpointError


def config_sha256(cfg: Config) -> str:
    """Hash of a resolved config, whatever the files it was written in; work directory and launcher do not count."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in ('work_dir', 'launcher')}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: str | os.PathLike) -> str:
    """Hash of a file's content.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    try:
        with open(path, 'rb') as file:
            digest = hashlib.sha256()
            for piece in iter(lambda: file.read(1 << 20), b''):
                digest.update(piece)
    except OSError as error:
        raise CheckpointError(f'checkpoint {path} does not exist (or is not a file); check the path') from error
    return digest.hexdigest()


def append_rows(path: str | os.PathLike, rows: list[dict[str, Any]]) -> None:
    """Append rows to a file of one JSON object per line."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a', encoding='utf-8') as file:
        file.write(''.join(json.dumps(row) + '\n' for row in rows))
