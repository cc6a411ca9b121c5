"""mmselfsup_graft: self-supervised pre-training with the objective chosen per layer.

Importing the package is light: registries fill themselves on first use (see :mod:`.registry`), and the public functions
(:mod:`.api`) are imported when one of them is used. :func:`register_all_modules` fills the registries at once. Once the
package is imported, ``mmcv.ops`` works without mmcv's compiled extension (see :mod:`.ops`).
"""

from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, ConfigError, DataError, GraftError
from .ops import install as _install_operators
from .version import __version__

if TYPE_CHECKING:
    from .api import (
        Encoder,
        convert,
        embed,
        evaluate,
        finetune,
        get_model,
        list_models,
        load_config,
        predict,
        push_to_hub,
        run_recipe,
        train,
    )

__all__ = [
    'CheckpointError',
    'ConfigError',
    'DataError',
    'Encoder',
    'GraftError',
    '__version__',
    'convert',
    'embed',
    'evaluate',
    'finetune',
    'get_model',
    'list_models',
    'load_config',
    'predict',
    'push_to_hub',
    'register_all_modules',
    'run_recipe',
    'train',
]

_install_operators()


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import every module that registers something and, if asked, make our scope mmengine's default one."""
    from .libraries.scopes import register_all_modules as register

    register(init_default_scope)


def __getattr__(name: str) -> Any:
    """A public function, from :mod:`.api`."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .libraries.quiet import quiet_imports

    with quiet_imports():
        from . import api
    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
