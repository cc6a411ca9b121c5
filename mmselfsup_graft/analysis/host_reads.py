"""Places where a training step makes the host wait for the device, and the number of operator calls."""

import traceback
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# operators that return a value to the host, or whose result's size depends on values
_OPERATORS = {
    '_local_scalar_dense',
    'equal',
    'allclose',
    'nonzero',
    'masked_select',
    'unique_dim',
    '_unique2',
    'unique_consecutive',
    'bincount',
    '_linalg_check_errors',
}
_BY_MASK = {'index', 'index_put', 'index_put_', '_index_put_impl_'}  # with a mask they need its non-zero places
# reads of a tensor in Python; on a CPU tensor the dispatcher does not see them
_METHODS = {'tolist', 'numpy', '__array__', 'cpu', '__repr__', '__format__'}
_FROM_DATA = {'tensor', 'as_tensor', 'asarray', 'new_tensor'}  # of a list with tensors they read each of them


class HostReads:
    """Context manager that records where the host reads values of tensors, and counts calls of operators.

    On a CPU such a read costs nothing; on a GPU the host waits there until all work queued so far is done. Detected on
    both are ``item``, ``float``, ``bool`` and ``if`` on tensors, ``tolist``, ``numpy``, ``cpu``, ``print``,
    ``torch.tensor`` of a list with tensors, ``equal``, ``allclose``, the checks of ``torch.linalg``, and operators
    whose result's size
    depends on values: ``nonzero``, ``unique``, ``bincount``, ``repeat_interleave`` by a tensor without ``output_size``,
    indexing by a mask. The step counters of an optimizer in its own step are not counted: they are on the CPU, whatever
    the device.

    Copies to the CPU that wait (``to('cpu')``, ``copy_``) are detected only with another device to copy from. Not
    detected are compiled code, other threads, C++ code and libraries that read a tensor's memory, and operators that
    wait internally. On a GPU the warnings of ``torch.cuda.set_sync_debug_mode`` are recorded as well,
    which cover many of these and waiting copies to the GPU.

    Attributes:
        found: One entry per read: the operator and the place in the code, outside of torch, that asked for it.
        syncs: One entry per wait that CUDA itself reported; empty without a GPU.
        calls: Calls of ATen's operators that are not views (``is_view`` of torch): on a GPU about as many kernels.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self.syncs: list[str] = []
        self.calls = 0
        self._stack = ExitStack()
        self._noted = False  # inside a call that is already recorded
        self._stepping: Optimizer | None = None

    def __enter__(self) -> 'HostReads':
        for register, hook in (
            (register_optimizer_step_pre_hook, self._enter_step),
            (register_optimizer_step_post_hook, self._leave_step),
        ):
            self._stack.callback(register(hook).remove)
        self._stack.enter_context(_Methods(self))
        self._stack.enter_context(_Operators(self))
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

    def _enter_step(self, optimizer: Optimizer, *_: Any) -> None:
        self._stepping = optimizer

    def _leave_step(self, *_: Any) -> None:
        self._stepping = None

    def _is_counter(self, tensor: Any) -> bool:
        """Whether a tensor is a step counter, on the CPU, of the optimizer at work."""
        states = self._stepping.state.values() if self._stepping else ()
        return any(state.get('step') is tensor and tensor.device.type == 'cpu' for state in states)

    def _note(self, name: str) -> None:
        if self._noted:
            return
        frames = [f for f in traceback.extract_stack() if '/torch/' not in f.filename and f.filename != __file__]
        place = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else 'torch'
        self.found.append(f'{name} at {place}')

    def _keep(self, seen: Any) -> None:
        texts = [(str(warning.message), f'{warning.filename}:{warning.lineno}') for warning in seen or ()]
        self.syncs += [place for text, place in texts if 'synchronizing CUDA operation' in text]


class _Operators(TorchDispatchMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.reads.calls += func.namespace == 'aten' and not func.is_view
        name = func.overloadpacket.__name__
        if _reads(name, args, kwargs) and not (name == '_local_scalar_dense' and self.reads._is_counter(args[0])):
            self.reads._note(name)
        return func(*args, **kwargs)


def _reads(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether a call of an operator makes the host wait for values."""
    if name in _BY_MASK:
        return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    if name == 'repeat_interleave':
        return kwargs.get('output_size') is None
    if name == '_to_copy':
        target = kwargs.get('device')
        return target is not None and _waits(args[0], torch.device(target), kwargs.get('non_blocking', False))
    if name in ('copy_', '_copy_from'):
        return _waits(args[1], args[0].device, args[2] if len(args) > 2 else kwargs.get('non_blocking', False))
    return name in _OPERATORS


def _waits(source: torch.Tensor, target: torch.device, non_blocking: bool) -> bool:
    return target.type == 'cpu' and source.device.type != 'cpu' and not non_blocking


class _Methods(TorchFunctionMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, '__name__', '')
        data = (*args, *kwargs.values())
        of_tensors = name in _FROM_DATA and any(_holds_tensors(each) for each in data if isinstance(each, list | tuple))
        if self.reads._noted or not (name in _METHODS or of_tensors):
            return func(*args, **kwargs)
        self.reads._note(name)
        self.reads._noted = True
        try:
            return func(*args, **kwargs)
        finally:
            self.reads._noted = False


def _holds_tensors(values: Iterable[Any]) -> bool:
    return any(
        isinstance(each, torch.Tensor) or (isinstance(each, list | tuple) and _holds_tensors(each)) for each in values
    )
