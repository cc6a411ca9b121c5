"""Config files read once per process: hundreds of tests read the same files, and every file its bases."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.engine import train

Content = tuple[dict[str, Any], str, dict[str, Any]]
_CONFIGS = Path(__file__).parents[1] / 'configs'
_read_file = Config._file2dict
_read_once = cache(_read_file)


def _file2dict(
    filename: str,
    use_predefined_variables: bool = True,
    use_environment_variables: bool = True,
    lazy_import: bool | None = None,
) -> Content:
    """mmengine's reader with a memory for the files below ``configs/``, which no test writes."""
    path = Path(filename).resolve()
    options = (use_predefined_variables, use_environment_variables, lazy_import)
    if _CONFIGS not in path.parents:
        return _read_file(filename, *options)
    content, text, variables = _read_once(str(path), *options)
    return deepcopy(content), text, dict(variables)


def remember_files() -> None:
    """Make mmengine keep what it has read from ``configs/`` for the rest of this process."""
    Config._file2dict = staticmethod(_file2dict)


@cache
def _checked(path: Path) -> Config:
    return train.load_config(path)


def load_config(path: Path) -> Config:
    """``mmselfsup_graft.engine.train.load_config``, read and checked once per file; a copy for every caller."""
    return deepcopy(_checked(path))
