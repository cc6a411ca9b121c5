"""Controls the processes of a comparison: all are alive, and they run one block each in turn."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .summary import MEASURED, Row
from .task import Settings

HERE = Path(__file__).resolve().parents[1]


class Racer:
    """One implementation in its own process.

    Args:
        implementation: Its name.
        kind: Module that builds it; imported at once.
        settings: Threads also bind libraries other than torch; on a CPU the process sees no GPU.
    """

    def __init__(self, implementation: str, kind: str, settings: Settings) -> None:
        self.row = Row(implementation)
        paths = [*(path for path in sys.path if path), str(HERE)]
        variables = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), str(settings.threads))
        if settings.device == 'cpu':
            variables['CUDA_VISIBLE_DEVICES'] = ''
        environment = {**os.environ, **variables, 'PYTHONPATH': os.pathsep.join(dict.fromkeys(paths))}
        self._errors = tempfile.TemporaryFile('w+')  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'harness.worker', kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any] | None:
        """Answer to a request; None if the implementation failed, with the reason in its row."""
        if self.row.status != MEASURED:
            return None
        try:
            self._process.stdin.write(json.dumps(request) + '\n')  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            line = self._process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            line = ''
        answer = json.loads(line) if line else {'failed': self._last_lines()}
        if 'ok' in answer:
            return answer['ok']
        ((self.row.status, self.row.reason),) = answer.items()
        self.close()
        return None

    def _last_lines(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        said = f': {lines[-1][:300]}' if lines else ''
        return f'the process ended with code {code}{" (killed: out of memory?)" if code == -9 else ""}{said}'

    def close(self) -> None:
        """End the process without waiting for it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            try:
                stream.close()  # type: ignore[union-attr]
            except BrokenPipeError:
                continue


@dataclass
class Contest:
    """Implementations of one subject, measured against each other.

    Attributes:
        kind: Module that builds the tasks, see :func:`harness.task.module_of`.
        subject: What is measured, e.g. a model.
        implementations: Names, in the order in which they take turns.
        settings: Shared settings.
        rounds: Blocks of each.
        steps: Steps of a block.
        say: Called with progress lines.
    """

    kind: str
    subject: str
    implementations: Sequence[str]
    settings: Settings
    rounds: int
    steps: int
    say: Callable[[str], None] = print
    _racers: list[Racer] = field(default_factory=list)

    def run(self) -> list[Row]:
        """Measure all; a failure becomes a row with a reason."""
        try:
            self._start()
            self._race()
            return self._finish()
        finally:
            for racer in self._racers:
                racer.close()

    def _start(self) -> None:
        options = self.settings._asdict()
        # all import in parallel; they are built one after another, as building may use all memory bandwidth
        self._racers += [Racer(name, self.kind, self.settings) for name in self.implementations]
        for racer in self._racers:
            started, name = time.perf_counter(), racer.row.implementation
            self.say(f'  {self.subject}, {name}: starting and building')
            built = racer.ask(do='build', kind=self.kind, subject=self.subject, implementation=name, settings=options)
            if built:
                racer.row.images, racer.row.note = built['images'], built['note']
                racer.row.warmup = built['warmup']
            state = f'ready in {time.perf_counter() - started:.0f} s' if built else racer.row.reason
            self.say(f'  {self.subject}, {name}: {state}')

    def _race(self) -> None:
        started = time.perf_counter()
        for turn in range(self.rounds):
            for racer in self._racers:
                seconds = racer.ask(do='block', steps=self.steps)
                if seconds is not None:
                    racer.row.blocks.append({name: value / self.steps for name, value in seconds.items()})
            spent = time.perf_counter() - started
            left = spent / (turn + 1) * (self.rounds - turn - 1)
            self.say(f'  {self.subject}, round {turn + 1} of {self.rounds}, about {left:.0f} s to go')

    def _finish(self) -> list[Row]:
        for racer in self._racers:
            racer.row.facts = racer.ask(do='facts') or {}
            racer.close()
        return [racer.row for racer in self._racers]
