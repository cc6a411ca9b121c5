"""The processes of the benchmarks as forks of the tests' server: they need not import torch and mmengine anew."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from forked import fork_context


class PipedFork:
    """What ``harness.contest`` needs of ``subprocess.Popen``: ``[sys.executable, '-m', MODULE, ...]`` with pipes."""

    def __init__(
        self,
        command: Sequence[str],
        stdin: int,
        stdout: int,
        stderr: IO[str],
        text: bool,
        env: Mapping[str, str],
    ) -> None:
        assert list(command[:2]) == [sys.executable, '-m']
        assert (stdin, stdout, text) == (subprocess.PIPE, subprocess.PIPE, True)
        with tempfile.TemporaryDirectory() as folder:
            pipes = [str(Path(folder) / name) for name in ('requests', 'answers')]
            for path in pipes:
                os.mkfifo(path)
            errors = f'/proc/{os.getpid()}/fd/{stderr.fileno()}'
            self._process = fork_context().Process(target=_run, args=([*pipes, errors], list(command[2:]), dict(env)))
            self._process.start()
            self.stdin = open(pipes[0], 'w')  # noqa: SIM115 - live as long as the process
            self.stdout = open(pipes[1])  # noqa: SIM115

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""
        self._process.join()
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


#: module to put in the place of ``subprocess`` in ``harness.contest``
FORKING = SimpleNamespace(**{**vars(subprocess), 'Popen': PipedFork})


def _run(files: list[str], command: list[str], variables: dict[str, Any]) -> None:
    multiprocessing.set_start_method('fork', force=True)  # as in a process that was not made by multiprocessing
    os.environ.clear()
    os.environ.update(variables)
    for number, path, mode in zip(range(3), files, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND)):
        opened = os.open(path, mode)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0)  # noqa: SIM115 - multiprocessing has closed it
    sys.path[:0] = [path for path in variables['PYTHONPATH'].split(os.pathsep) if path not in sys.path]
    sys.argv = command
    runpy.run_module(command[0], run_name='__main__', alter_sys=True)
