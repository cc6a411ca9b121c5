"""Preparation of the registries and mmengine."""

import importlib

from mmengine.config import utils as config_utils
from mmengine.registry import DefaultScope

from mmselfsup_graft.registry import SCOPE

from .own_configs import inherit_own_configs
from .quiet import quiet_imports

_PACKAGES = ('datasets', 'models', 'engine', 'evaluation', 'analysis')

# distributions whose configs can be inherited by `_base_ = 'mmseg::...'` and are missing in mmengine's own table
_CONFIG_PACKAGES = {'mmseg': 'mmseg', SCOPE: SCOPE}


def import_scope(scope: str | None) -> None:
    """Import the modules that register the types of mmdet or mmseg, if that is the scope of a config.

    Raises:
        ImportError: If the library is missing.
    """
    if scope in ('mmdet', 'mmseg'):
        with quiet_imports():
            for package in ('datasets', 'engine', 'evaluation', 'models'):
                importlib.import_module(f'{scope}.{package}')
            if scope == 'mmdet':  # left out by libraries/mmpretrain_models.py; it puts a class into mmdet's registry
                importlib.import_module('mmpretrain.models.utils.res_layer_extra_norm')


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import every module that registers something.

    Args:
        init_default_scope: Make ``mmselfsup_graft`` the scope in which types without a prefix are looked up.
    """
    with quiet_imports():
        importlib.import_module('mmpretrain.datasets')
    for package in _PACKAGES:
        importlib.import_module(f'{SCOPE}.{package}')
    config_utils.MODULE2PACKAGE.update(_CONFIG_PACKAGES)
    inherit_own_configs()
    if init_default_scope:
        current = DefaultScope.get_current_instance()
        if current is None or current.scope_name != SCOPE:
            name = f'{SCOPE}-{len(DefaultScope._instance_dict)}'
            DefaultScope.get_instance(name, scope_name=SCOPE)
