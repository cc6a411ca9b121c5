"""The process of one implementation: ``python -m harness.worker KIND``, controlled by :mod:`harness.contest`.

Reads one JSON object per line from its standard input and answers each with one. What libraries print goes to standard
error.
"""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .clock import BlockClock
from .task import Missing, Settings, Task, module_of


class Worker:
    """Builds a task, runs its blocks and reports its facts."""

    task: Task
    settings: Settings

    def build(self, kind: str, subject: str, implementation: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Build the task and warm it up."""
        self.settings = Settings(**settings)
        self._prepare_torch()
        self.task = module_of(kind).build(subject, implementation, self.settings)
        warmup = self._block(self.settings.warmup) if self.settings.warmup else {'wall': 0.0}
        if self.settings.device == 'cuda':
            import torch

            torch.cuda.reset_peak_memory_stats()
        return {'images': self.task.images, 'note': self.task.note, 'warmup': warmup}

    def _prepare_torch(self) -> None:
        import torch

        from .threads import set_threads

        set_threads(self.settings.threads)
        if self.settings.device == 'cuda' and not torch.cuda.is_available():
            raise Missing('torch sees no GPU here; use --device cpu')

    def _block(self, steps: int) -> dict[str, float]:
        return self.task.block(BlockClock(self.settings.device, self.task.cpu_of_children), steps)

    def block(self, steps: int) -> dict[str, float]:
        """Seconds of one block."""
        return self._block(steps)

    def facts(self) -> dict[str, Any]:
        """Memory first, as counting uses memory."""
        from .memory import peak_memory

        return {**peak_memory(self.settings.device), **self.task.facts()}


def serve(requests: Any, reply: Callable[[dict[str, Any]], None]) -> None:
    """Answer every request; an exception is an answer too and ends the work of this process."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        try:
            reply({'ok': getattr(worker, request.pop('do'))(**request)})
        except Missing as missing:
            reply({'missing': str(missing)})
            return
        except Exception as error:
            from mmselfsup_graft.cli.running import describe

            traceback.print_exc()
            reply({'failed': describe(error)})
            return


def main() -> None:
    """Reserve standard output for answers, then serve."""
    warnings.filterwarnings('ignore')
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    with suppress(Exception):  # slow, so in parallel with building; failures occur again later and are answered
        module_of(sys.argv[1])

    def reply(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + '\n')
        answers.flush()

    serve(sys.stdin, reply)


if __name__ == '__main__':
    main()
