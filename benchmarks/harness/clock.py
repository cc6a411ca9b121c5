"""Clocks of a block of steps."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any


class BlockClock:
    """Context manager; :attr:`seconds` has ``wall``, ``cpu`` and, on a GPU, ``gpu`` after the block.

    ``cpu`` is the processor time of all threads of this process; unlike wall time it does
    not depend on other jobs on the machine. ``gpu`` is the time between two events on the current stream.

    Args:
        device: ``cuda`` waits for the device at both ends.
        children: Add the processor time of child processes that live through the block.
    """

    def __init__(self, device: str, children: bool = False) -> None:
        self.device, self.children = device, children
        self.seconds: dict[str, float] = {}
        self._events: list[Any] = []

    def _cpu(self) -> float:
        return time.process_time() + (seconds_of_children() if self.children else 0.0)

    def _mark(self) -> None:
        if self.device == 'cuda':
            import torch

            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)

    def _wait(self) -> None:
        if self.device == 'cuda':
            import torch

            torch.cuda.synchronize()

    def __enter__(self) -> 'BlockClock':
        self._wait()
        self._events = []
        self._started = (time.perf_counter(), self._cpu())
        self._mark()
        return self

    def __exit__(self, *_: object) -> None:
        self._mark()
        self._wait()
        wall, cpu = time.perf_counter() - self._started[0], self._cpu() - self._started[1]
        self.seconds = {'wall': wall, 'cpu': cpu}
        if self._events:
            self.seconds['gpu'] = self._events[0].elapsed_time(self._events[1]) / 1000


def seconds_of_children() -> float:
    """Processor time so far of the living processes that this one started through ``multiprocessing``; Linux only."""
    ticks = 0
    for child in multiprocessing.active_children():
        stat = Path(f'/proc/{child.pid}/stat')
        if stat.is_file():
            ticks += sum(map(int, stat.read_text().rpartition(')')[2].split()[11:13]))  # utime, stime
    return ticks / os.sysconf('SC_CLK_TCK')
