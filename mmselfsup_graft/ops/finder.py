"""Import hook for ``mmcv._ext`` if the compiled extension of mmcv is not installed or does not work.

Standard library only: ``import mmselfsup_graft`` runs this, so that ``mmcv.ops`` works however the package is
used (tools, ``custom_imports`` of a config under another library's tools, a notebook).
"""

import importlib
import importlib.abc
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal

EXTENSION = 'mmcv._ext'
#: Set to ``torchvision`` to ignore installed compiled operators.
VARIABLE = 'GRAFT_MMCV_OPS'
#: Its values; ``compiled`` is what happens without it.
VALUES = ('torchvision', 'compiled', '')
_ORIGIN = 'mmselfsup_graft.ops'


class Loader(importlib.abc.Loader):
    """Loads the compiled ``mmcv._ext``, or a replacement if that fails.

    Args:
        compiled: Specification of the compiled one; None where there is none or it is not wanted.

    Attributes:
        compiled: As the argument; None as well once the compiled one was found not to work.
        failure: Why it does not work, else empty.
    """

    def __init__(self, compiled: ModuleSpec | None) -> None:
        self.compiled = compiled
        self.failure = ''

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the compiled module, loaded; None, with a warning, where it does not work."""
        if self.compiled is None:
            return None
        import torch  # noqa: F401  # the extension is linked to its libraries and does not find them by itself

        try:
            return _loaded(self.compiled)
        except (ImportError, RuntimeError) as error:  # e.g. an undefined symbol: it was built for another torch
            path, self.compiled, self.failure = self.compiled.origin, None, str(error).partition('\n')[0]
        spec.origin = _ORIGIN
        warnings.warn(
            f"mmcv's compiled operators ({path}) do not work: {self.failure}. The operators of torchvision are "
            'used instead. To build the compiled ones again: see python tools/check_env.py. To use torchvision '
            f'without this warning: {VARIABLE}=torchvision',
            stacklevel=2,
        )
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the operators into the replacement module; torch and torchvision are imported here."""
        if self.compiled is None:
            from .extension import SERVED, missing_operator

            vars(module).update(SERVED, __getattr__=missing_operator)


def _loaded(spec: ModuleSpec) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    if spec.loader is not None:
        spec.loader.exec_module(module)
    _check(module)
    return module


def _check(extension: ModuleType) -> None:
    """Call one operator: an extension built for another torch may load and still misread its arguments."""
    import torch

    kept = extension.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), iou_threshold=0.5, offset=0)
    if kept.tolist() != [0]:
        raise RuntimeError(f'nms of one box keeps {kept.tolist()}')


class Finder(importlib.abc.MetaPathFinder):
    """Finds ``mmcv._ext``: the compiled one if another finder has it, unless :data:`VARIABLE` is set."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Specification of the extension, whose :class:`Loader` decides; None for every other module."""
        if fullname != EXTENSION:
            return None
        others = () if os.environ.get(VARIABLE) == 'torchvision' else tuple(sys.meta_path)
        specs = (finder.find_spec(fullname, path, target) for finder in others if not isinstance(finder, Finder))
        compiled = next(filter(None, specs), None)
        return ModuleSpec(fullname, Loader(compiled), origin=compiled.origin if compiled else _ORIGIN)


def install() -> None:
    """Install the import hook; a second call changes nothing."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def operators_in_use() -> Literal['compiled', 'torchvision']:
    """Source of the operators of ``mmcv.ops``, imported or not.

    Compiled operators that are found are loaded, since only that shows whether they work.

    Raises:
        ImportError: If mmcv is not installed or cannot be imported.
    """
    loader = _decided()
    return 'torchvision' if isinstance(loader, Loader) and loader.compiled is None else 'compiled'


def failure_of_compiled() -> str:
    """Why compiled operators that are installed and wanted are not in use; else empty.

    Raises:
        ImportError: If mmcv is not installed or cannot be imported.
    """
    loader = _decided()
    return loader.failure if isinstance(loader, Loader) else ''


def _decided() -> object:
    """The loader of ``mmcv._ext``, after it has tried the compiled extension."""
    spec = sys.modules[EXTENSION].__spec__ if EXTENSION in sys.modules else importlib.util.find_spec(EXTENSION)
    if spec is not None and isinstance(spec.loader, Loader) and spec.loader.compiled is not None:
        spec = importlib.import_module(EXTENSION).__spec__
    return spec.loader if spec is not None else Loader(None)
