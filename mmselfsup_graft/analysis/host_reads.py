"""Where a training step makes the host wait for the device."""

import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# results whose size, or whose very value, the host must know; calls of Python that do the same for CPU tensors unseen
_OPERATORS = {
    '_local_scalar_dense',
    'nonzero',
    'masked_select',
    'equal',
    'unique_dim',
    '_unique2',
    'unique_consecutive',
}
_METHODS = {'tolist', 'numpy', '__array__', 'cpu'}


class HostReads:
    """Context manager that notes every read of a tensor's value by the host.

    On a CPU such a read costs nothing; on a GPU the host waits there until all work queued so far is done. What is seen
    is the same on both: ``item``, ``float``, ``bool`` and ``if`` on tensors, ``tolist``, ``numpy``, ``cpu``, and
    operators whose result's size depends on values (``nonzero``, indexing by a mask). On a GPU the warnings of
    ``torch.cuda.set_sync_debug_mode`` are noted as well, which also know of waiting copies.

    Attributes:
        found: One entry per read: the operator and the place in the code, outside of torch, that asked for it.
        syncs: One entry per wait that CUDA itself reported; empty without a GPU.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self.syncs: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> 'HostReads':
        self._stack.enter_context(_Methods(self._note))
        self._stack.enter_context(_Operators(self._note))
        if torch.cuda.is_available():
            before = torch.cuda.get_sync_debug_mode()
            self._stack.callback(torch.cuda.set_sync_debug_mode, before)
            seen = self._stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter('always')
            self._stack.callback(self._keep, seen)
            torch.cuda.set_sync_debug_mode('warn')
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _note(self, name: str) -> None:
        frames = [f for f in traceback.extract_stack() if '/torch/' not in f.filename and f.filename != __file__]
        place = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else 'torch'
        self.found.append(f'{name} at {place}')

    def _keep(self, seen: Any) -> None:
        texts = [(str(warning.message), f'{warning.filename}:{warning.lineno}') for warning in seen or ()]
        self.syncs += [place for text, place in texts if 'synchronizing CUDA operation' in text]


class _Operators(TorchDispatchMode):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition('::')[2]
        by_mask = name in ('index', 'index_put', 'index_put_', '_index_put_impl_') and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        if name in _OPERATORS or by_mask:
            self.note(name)
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if getattr(func, '__name__', '') in _METHODS:
            self.note(func.__name__)
        return func(*args, **(kwargs or {}))
