"""First import of mmpretrain, without warnings and without mmdet, before any module that uses it."""

import importlib
import sys
from types import ModuleType
from typing import Any

from .quiet import quiet_imports

# Its class derives from a part of mmdet's detectors, so mmpretrain imports all of mmdet for it where that is installed:
# as much time as torch takes. No model of this toolbox uses it.
_DETECTION = 'mmpretrain.models.utils.res_layer_extra_norm'


def _import_models() -> None:
    """Import mmpretrain's models; its one module for mmdet is imported on first use.

    A stand-in takes the module's place while the package is imported, with the value that the module has where mmdet
    is not installed. Afterwards the module counts as not imported yet: ``custom_imports`` of a config, an
    import statement, the name in ``mmpretrain.models.utils`` and ``libraries.scopes.import_scope('mmdet')`` import it.
    """
    if {'mmdet.models', 'mmpretrain.models'} & set(sys.modules):  # nothing to save
        importlib.import_module('mmpretrain.models')
        return
    stand_in: Any = ModuleType(_DETECTION)
    stand_in.ResLayerExtraNorm = None
    sys.modules[_DETECTION] = stand_in
    try:
        importlib.import_module('mmpretrain.models')
    finally:
        del sys.modules[_DETECTION]
    utils: Any = importlib.import_module('mmpretrain.models.utils')
    del utils.ResLayerExtraNorm
    utils.__getattr__ = _of_detection


def _of_detection(name: str) -> Any:
    """Module-level ``__getattr__`` of ``mmpretrain.models.utils``."""
    if name != 'ResLayerExtraNorm':
        raise AttributeError(f"module 'mmpretrain.models.utils' has no attribute {name!r}")
    return importlib.import_module(_DETECTION).ResLayerExtraNorm


with quiet_imports():
    _import_models()
