"""Getting the registries and mmengine ready."""

import contextlib
import importlib
import io

from mmengine.config import utils as config_utils
from mmengine.registry import DefaultScope

from mmselfsup_graft.registry import SCOPE

_PACKAGES = ('datasets', 'engine', 'models')

# distributions whose configs can be inherited by `_base_ = 'mmseg::...'` and are missing in mmengine's own table
_CONFIG_PACKAGES = {'mmseg': 'mmseg', SCOPE: 'mmselfsup_graft'}


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import every module that registers something.

    Args:
        init_default_scope: Make ``mmselfsup_graft`` the scope in which types without a prefix are looked up.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that an optional package of its makers is missing
        importlib.import_module('mmpretrain.datasets')
    for package in _PACKAGES:
        importlib.import_module(f'{SCOPE}.{package}')
    config_utils.MODULE2PACKAGE.update(_CONFIG_PACKAGES)
    if init_default_scope:
        current = DefaultScope.get_current_instance()
        if current is None or current.scope_name != SCOPE:
            name = f'{SCOPE}-{len(DefaultScope._instance_dict)}'
            DefaultScope.get_instance(name, scope_name=SCOPE)
