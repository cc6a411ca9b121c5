"""The first import of mmpretrain's data sets, quietly: it comes before everything here that uses it."""

import importlib

from .quiet import quiet_imports

with quiet_imports():
    importlib.import_module('mmpretrain.datasets')
