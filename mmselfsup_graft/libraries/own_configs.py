"""Configs of this package: beside it in a checkout, in its plugin folder ``.mim`` in an installed wheel."""

from pathlib import Path

from mmengine.config import Config

import mmselfsup_graft
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import SCOPE
from mmselfsup_graft.utils.suggestions import did_you_mean

_MARK = f'{SCOPE}::'
_of_mmengine = Config._get_cfg_path


def configs_folder() -> Path:
    """The folder ``configs``.

    Raises:
        ConfigError: If the package has none: it was copied without.
    """
    package = Path(mmselfsup_graft.__file__).resolve().parent
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        if folder.is_dir():
            return folder
    raise ConfigError(f'no folder of configs beside {package} or in it; install the wheel, or use a checkout')


def own_config(name: str) -> Path:
    """Path of a config of this package, given as below ``configs``: ``mae/NAME.py``.

    Raises:
        ConfigError: If it does not exist; near names are suggested.
    """
    folder = configs_folder()
    path = folder / name
    if not path.is_file():
        known = [each.relative_to(folder).as_posix() for each in path.parent.glob('*.py')]
        raise ConfigError(f'{_MARK}{name}: no such config in {folder}{did_you_mean(name, known)}')
    return path


def _config_path(name: str, filename: str) -> tuple[str, str | None]:
    """As mmengine's ``Config._get_cfg_path``, which finds configs of installed wheels with a metafile only."""
    if name.startswith(_MARK):
        return str(own_config(name.removeprefix(_MARK))), None  # the scope is that of default_runtime.py
    return _of_mmengine(name, filename)


def inherit_own_configs() -> None:
    """Make ``_base_ = 'mmselfsup_graft::...'`` work in a checkout as in a wheel."""
    Config._get_cfg_path = staticmethod(_config_path)
