"""mmselfsup_graft: self-supervised pre-training with the objective chosen per layer.

Importing the package is light on purpose: registries fill themselves on first use (see :mod:`.registry`);
:func:`register_all_modules` fills them at once. Once it is imported, ``mmcv.ops`` works without mmcv's compiled
extension (see :mod:`.ops`).
"""

from .errors import CheckpointError, ConfigError, DataError, GraftError
from .ops import install as _install_operators
from .version import __version__

__all__ = ['CheckpointError', 'ConfigError', 'DataError', 'GraftError', '__version__', 'register_all_modules']

_install_operators()


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import every module that registers something and, if asked, make our scope mmengine's default one."""
    from .libraries.scopes import register_all_modules as register

    register(init_default_scope)
