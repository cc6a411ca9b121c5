"""The task of one process of a benchmark."""

import importlib
from types import ModuleType
from typing import Any, Literal, NamedTuple


class Missing(Exception):
    """An implementation cannot run here; the message says why and what to do. It becomes a row of the table."""


class Settings(NamedTuple):
    """Settings that all implementations share.

    Attributes:
        device: Where the steps run.
        precision: ``bf16`` is autocast.
        batch_size: Images per step.
        threads: Threads of torch in each process.
        warmup: Untimed steps before the first round.
        workers: Processes of a data loader, 0 for none.
        data: Folder of JPEG files, for benchmarks that read files.
    """

    device: Literal['cpu', 'cuda'] = 'cpu'
    precision: Literal['fp32', 'bf16'] = 'fp32'
    batch_size: int = 8
    threads: int = 1
    warmup: int = 1
    workers: int = 0
    data: str = ''


class Task:
    """One implementation of one subject, built and ready; the worker calls :meth:`block` and then :meth:`facts`.

    Attributes:
        images: Images that one step takes.
        note: What differs from the other implementations, for the table.
        cpu_of_children: Whether the CPU time of child processes counts.
    """

    images: int = 1
    note: str = ''
    cpu_of_children: bool = False

    def step(self) -> None:
        """Do one step; on a GPU it may return before the GPU is done."""
        raise NotImplementedError

    def block(self, clock: Any, steps: int) -> dict[str, float]:
        """Time ``steps`` steps.

        Returns:
            Seconds of the whole block by name of the clock, and other measurements.
        """
        with clock:
            for _ in range(steps):
                self.step()
        return clock.seconds

    def facts(self) -> dict[str, Any]:
        """Counted figures; called once, after all rounds."""
        return {}


def module_of(kind: str) -> ModuleType:
    """The module that builds tasks of a kind: ``subjects.KIND``, or ``KIND`` itself if it names a whole module.

    Its ``build(subject, implementation, settings)`` returns a :class:`Task` or raises :class:`Missing`.
    """
    return importlib.import_module(kind if '.' in kind else f'subjects.{kind}')
