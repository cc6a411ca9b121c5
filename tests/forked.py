"""Python processes that start in milliseconds: forks of a server that has torch, mmengine and our modules imported.

A fresh ``python tools/train.py`` imports for seconds before it does anything. A :class:`Forked` process has what tests
of processes are about: a process id, an environment, files for its output, an exit status, a death by signal. It runs
the same script as ``__main__``. It does not show that a script imports what it needs, nor does it obey variables that
are read while libraries are imported, but for ``OMP_NUM_THREADS``: for those, start Python itself.

The server is that of :mod:`multiprocessing`; it starts with the first process and ends with the test session. It never
computes anything: autograd refuses to work in forks of a process that has used it.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch

ROOT = Path(__file__).parents[1]
_IMPORTED = [
    'mmselfsup_graft.engine.train',
    'mmselfsup_graft.datasets',
    'mmselfsup_graft.engine',
    'mmselfsup_graft.models',
]


@cache
def fork_context() -> Any:
    """The context of :mod:`multiprocessing` whose processes are forks of the server; the first call starts that."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_IMPORTED)
    before = os.environ.copy()
    os.environ.update(PYTHONPATH=_joined(str(ROOT), before.get('PYTHONPATH')), OMP_NUM_THREADS='1')
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


class Forked:
    """What :class:`subprocess.Popen` is for a command, as far as the tests use it.

    Args:
        command: ``[sys.executable, SCRIPT, ...]`` or ``[sys.executable, '-m', MODULE, ...]``.
        cwd: Working directory; default: this one.
        env: Its variables; default: those of this process.
        stdout: An open file, ``subprocess.DEVNULL`` or ``PIPE``; what goes to a pipe comes from :meth:`communicate`.
        stderr: The same, or ``subprocess.STDOUT``.
        stdin: Always closed; accepted for the sake of callers of ``Popen``.
    """

    def __init__(
        self,
        command: Sequence[Any],
        cwd: Any = None,
        env: Mapping[str, str] | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        stdin: Any = None,
    ) -> None:
        self.args = [str(each) for each in command]
        assert self.args[0] == sys.executable, f'only Python can be forked, got {self.args}'
        self._pipes: dict[str, IO[str] | None] = {}
        out = self._file('out', stdout)
        err = out if stderr is subprocess.STDOUT else self._file('err', stderr)
        variables = dict(os.environ if env is None else env)
        given = (self.args[1:], str(cwd or Path.cwd()), variables, out, err)
        self._process: BaseProcess = fork_context().Process(target=_run, args=given)
        self._process.start()

    def _file(self, name: str, target: Any) -> str:
        if target is subprocess.DEVNULL:
            return os.devnull
        if target is subprocess.PIPE:
            self._pipes[name] = target = tempfile.NamedTemporaryFile('w+')  # noqa: SIM115 (closed by communicate)
        return target.name

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same as :attr:`returncode`."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit status.

        Raises:
            subprocess.TimeoutExpired: As for ``Popen``; the process keeps running.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns what it printed to its pipes."""
        self.wait(timeout)
        texts = []
        for name in ('out', 'err'):
            file = self._pipes.pop(name, None)
            texts.append('' if file is None else Path(file.name).read_text(errors='replace'))
            if file is not None:
                file.close()
        return texts[0], texts[1]


#: module to put in the place of ``subprocess`` where a function under test starts Python by ``subprocess.Popen``
FORKING = SimpleNamespace(**{**vars(subprocess), 'Popen': Forked})


def _run(command: list[str], cwd: str, variables: dict[str, str], out: str, err: str) -> None:
    """What the fork does: become what ``python COMMAND`` would be in that folder with these variables."""
    # as in a process that was not made by multiprocessing: data loaders start their workers so
    multiprocessing.set_start_method('fork', force=True)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    for target, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, target)
        os.close(file)
    if 'OMP_NUM_THREADS' in variables:
        torch.set_num_threads(int(variables['OMP_NUM_THREADS']))
    # Our parent is the server. A stage of a recipe watches the process that it was started for, which is not.
    if 'GRAFT_PARENT' in variables:
        os.environ['GRAFT_PARENT'] = str(os.getppid())
    module = command[0] == '-m'
    sys.argv = command[1:] if module else command
    beginning = cwd if module else str(Path(command[0]).parent)
    sys.path[:0] = [beginning, *filter(None, variables.get('PYTHONPATH', '').split(os.pathsep))]
    if module:
        runpy.run_module(command[1], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(command[0], run_name='__main__')


def _joined(*paths: str | None) -> str:
    return os.pathsep.join(filter(None, paths))
