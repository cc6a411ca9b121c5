"""Numbers that stay on the device until they are read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import HistoryBuffer, MessageHub

_MOST_PENDING = 1000  # values of one name that are kept on the device if they are never read


def read_scalars(values: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    """Convert logged values to Python numbers, with one transfer for all tensors of one type and device.

    Args:
        values: Numbers and tensors of one element.
    """
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    read = dict(zip(tensors, _read(tensors.values())))
    return {name: read[name] if name in read else float(value) for name, value in values.items()}


def _read(tensors: Iterable[torch.Tensor]) -> list[float]:
    """The element of each tensor, in their order."""
    flat = [tensor.detach().reshape(()) for tensor in tensors]
    together: dict[Any, list[int]] = defaultdict(list)
    for index, tensor in enumerate(flat):
        together[tensor.device, tensor.dtype].append(index)
    found: dict[int, float] = {}
    for indices in together.values():
        found.update(zip(indices, torch.stack([flat[index] for index in indices]).tolist()))
    return [found[index] for index in range(len(flat))]


class DeferredMessageHub(MessageHub):
    """mmengine's store of logged scalars, which keeps tensors and reads them when values are requested.

    mmengine converts every loss of every iteration to a Python number, and each conversion waits until the device has
    finished all queued work. Here the values of many iterations are transferred together when a hook logs or a
    checkpoint is written. The numbers, their order and derived values are the same.

    Args are those of :class:`mmengine.logging.MessageHub`.
    """

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        self._pending: dict[str, list[tuple[torch.Tensor, int]]] = {}

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Add a value to a history; a tensor of one element is kept without reading it."""
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            if key in self._pending:  # keep the order of the calls within a history
                self.flush()
            super().update_scalar(key, value, count, resumed)
            return
        self._set_resumed_keys(key, resumed)
        self._log_scalars.setdefault(key, HistoryBuffer())  # names keep the order in which they appeared
        waiting = self._pending.setdefault(key, [])
        waiting.append((value.detach(), count))
        if len(waiting) >= _MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Read all values that are still on the device; a failed read loses nothing."""
        entries = [(key, *entry) for key, waiting in self._pending.items() for entry in waiting]
        numbers = _read(value for _, value, _ in entries)
        self._pending = {}
        for (key, _, count), number in zip(entries, numbers):
            self._log_scalars[key].update(number, count)

    @property
    def log_scalars(self) -> Any:
        """All histories, complete."""
        self.flush()
        return super().log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """One history, complete; histories of plain numbers wait for nothing."""
        if key in self._pending or key not in self._log_scalars:
            return super().get_scalar(key)
        return self._log_scalars[key]

    def state_dict(self) -> dict:
        """What a checkpoint holds, complete."""
        self.flush()
        return super().state_dict()


# users of mmengine's class (optimizer wrappers, log processor) get this hub as the current one
DeferredMessageHub._instance_dict = MessageHub._instance_dict  # type: ignore[attr-defined]
