"""The files that say what a stored copy or a folder of archives holds."""

import json
import os
from typing import Any

from mmselfsup_graft.errors import DataError

MANIFEST_NAME = 'manifest.json'


def read_json(path: str | os.PathLike, advice: str) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It is missing or damaged; ``advice`` says what to do.
    """
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f'{os.fspath(path)!r} cannot be read ({error.strerror}); {advice}') from error
    except ValueError as error:
        raise DataError(f'{os.fspath(path)!r} is damaged ({error}); {advice}') from error
