"""Answers for ``mmcv._ext`` where the compiled extension of mmcv is not installed.

Standard library only: ``import mmselfsup_graft`` runs this, so that ``mmcv.ops`` works whichever way the package is
used (tools, ``custom_imports`` of a config under another library's tools, a notebook).
"""

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal

EXTENSION = 'mmcv._ext'
#: Set to ``torchvision``, it passes over compiled ops that are installed.
VARIABLE = 'GRAFT_MMCV_OPS'


class Loader(importlib.abc.Loader):
    """Fills the module that stands in for ``mmcv._ext``."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the operators into the module; torch and torchvision are imported here."""
        from .extension import SERVED, missing_operator

        vars(module).update(SERVED, __getattr__=missing_operator)


class Finder(importlib.abc.MetaPathFinder):
    """Finds ``mmcv._ext`` where no other finder does, and where :data:`VARIABLE` says so."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Specification of the stand-in; None for every other module and where the compiled one is to be loaded."""
        if fullname != EXTENSION:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, Finder))
        if os.environ.get(VARIABLE) != 'torchvision' and any(f.find_spec(fullname, path, target) for f in others):
            return None
        return ModuleSpec(fullname, Loader(), origin='mmselfsup_graft.ops')


def install() -> None:
    """Answer for ``mmcv._ext`` from now on; a second call changes nothing."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def operators_in_use() -> Literal['compiled', 'torchvision']:
    """Whose operators ``mmcv.ops`` has, or would have once it is imported.

    Raises:
        ImportError: If mmcv is not installed.
    """
    loaded = sys.modules.get(EXTENSION)
    spec = loaded.__spec__ if loaded else importlib.util.find_spec(EXTENSION)
    return 'torchvision' if spec is None or isinstance(spec.loader, Loader) else 'compiled'
