"""First import of mmpretrain's data sets, without warnings, before any module that uses them."""

import importlib

from .quiet import quiet_imports

with quiet_imports():
    importlib.import_module('mmpretrain.datasets')
