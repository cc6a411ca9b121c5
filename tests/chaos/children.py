"""Processes that do a piece of work and are killed at a drawn moment of it.

They are forks of a server that has everything imported (:mod:`forked`), so that a round costs little more than its
work. Moments are drawn in CPU seconds, in operations on files or in bytes of one file: none depends on how busy the
machine is.
"""

import json
import os
import random
import resource
import runpy
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
_OPERATIONS = {'os.rename', 'os.remove', 'os.mkdir', 'os.link', 'os.truncate', 'os.symlink', 'os.rmdir'}


@dataclass(frozen=True)
class Kill:
    """When a process dies.

    Attributes:
        kind: ``cpu``: after ``value`` seconds of CPU time, by SIGPROF; ``file``: before the ``value``-th time that it
            opens a file for writing, renames or removes one below ``folder``, by SIGKILL; ``bytes``: when it has
            written ``value`` bytes into one file and goes on, by SIGXFSZ, in the middle of that write; ``full``: the
            same, but the write fails as on a full disk; the name of a signal: that signal is sent after ``value``
            seconds of CPU time.
        value: See there.
    """

    kind: str
    value: float


@dataclass(frozen=True)
class Measure:
    """What a piece of work costs if nobody kills it.

    Attributes:
        cpu: Seconds of CPU time.
        operations: Operations on files below its folder.
        largest: Bytes of its largest file.
    """

    cpu: float
    operations: int
    largest: int

    def kill(self, draw: random.Random) -> Kill:
        """A moment of the work."""
        kind = draw.choice(['cpu', 'file', 'file', 'bytes'])
        if kind == 'cpu':
            return Kill(kind, draw.uniform(0.02, 1.0) * self.cpu)
        if kind == 'file':
            return Kill(kind, draw.randint(1, max(1, self.operations)))
        return Kill(kind, draw.randint(1, max(1, self.largest)))


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: Exit status, negative for a signal.
        text: What it printed.
    """

    code: int
    text: str

    @property
    def killed(self) -> bool:
        """Whether it died of what was drawn."""
        return -self.code in (signal.SIGPROF, signal.SIGKILL, signal.SIGXFSZ)

    @property
    def error(self) -> str | None:
        """The one line of an error, if it ended with one as a tool must."""
        lines = [line for line in self.text.splitlines() if line.startswith('error: ')]
        return lines[0] if self.code in (1, 2) and len(lines) == 1 and 'Traceback' not in self.text else None


def context() -> Any:
    """The context whose processes are forks of the server; the first call starts it."""
    if 'chaos.children' not in forked._IMPORTED:
        forked._IMPORTED += [
            'sklearn.datasets',
            'test_tools.tiny_runs',
            'mmselfsup_graft.evaluation.finetuning.finetune',
            'chaos.children',
        ]
        joined = os.pathsep.join(filter(None, [str(TESTS), os.environ.get('PYTHONPATH')]))
        os.environ['PYTHONPATH'] = joined
    return forked.fork_context()


def run(function: Any, *args: Any, log: Path, kill: Kill | None = None, folder: Path | None = None) -> Ended:
    """Call a function of a module in a process of its own, to its end or death.

    Raises:
        TimeoutError: If it takes more than five minutes.
    """
    process = start(function, *args, log=log, kill=kill, folder=folder)
    process.join(300)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f'{args} still ran after 300 s; {log}')
    return Ended(process.exitcode, log.read_text(errors='replace') if log.is_file() else '')


def start(function: Any, *args: Any, log: Path, kill: Kill | None = None, folder: Path | None = None) -> Any:
    """The same, without waiting for it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    given = (function, args, str(log), kill, str(folder or log.parent))
    process = context().Process(target=_main, args=given)
    process.start()
    return process


def measured(function: Any, *args: Any, log: Path, folder: Path) -> Measure:
    """Do the work undisturbed; the result of it stays.

    Raises:
        RuntimeError: If it fails.
    """
    note = log.with_suffix('.json')
    ended = run(_measure, function, args, str(note), str(folder), log=log, folder=folder)
    if ended.code != 0:
        raise RuntimeError(f'the undisturbed run ended with {ended.code}: {ended.text[-2000:]}')
    sizes = [path.stat().st_size for path in folder.rglob('*') if path.is_file()]
    return Measure(**json.loads(note.read_text()), largest=max(sizes, default=1))


def tool(name: str, *arguments: Any) -> None:
    """Run ``python tools/NAME.py ARGUMENTS`` in this process."""
    sys.argv = [f'{name}.py', *map(str, arguments)]
    runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')


def _main(function: Any, args: tuple, log: str, kill: Kill | None, folder: str) -> None:
    import multiprocessing

    multiprocessing.set_start_method('fork', force=True)  # as in an ordinary process: loaders start workers so
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for target in (1, 2):
        os.dup2(file, target)
    os.environ['OMP_NUM_THREADS'] = '1'
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if kill is not None:
        _arm(kill, folder)
    function(*args)


def _arm(kill: Kill, folder: str) -> None:
    if kill.kind == 'cpu':
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, kill.value)
    elif kill.kind == 'file':
        counter = _Operations(folder)
        counter.limit = int(kill.value)
        sys.addaudithook(counter)
    elif kill.kind.startswith('SIG'):
        threading.Thread(target=_signal_later, args=(kill,), daemon=True).start()
    else:
        if kill.kind == 'bytes':
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(kill.value), resource.RLIM_INFINITY))


def _signal_later(kill: Kill) -> None:
    while time.process_time() < kill.value:
        time.sleep(0.005)
    os.kill(os.getpid(), getattr(signal, kill.kind))


class _Operations:
    """Audit hook that counts operations on files below a folder, and dies at one of them."""

    def __init__(self, folder: str) -> None:
        self.folder, self.count, self.limit = folder, 0, -1

    def __call__(self, event: str, args: tuple) -> None:
        if event != 'open' and event not in _OPERATIONS:
            return
        if event == 'open' and not self._writes(args):
            return
        if isinstance(args[0], str | os.PathLike) and os.fspath(args[0]).startswith(self.folder):
            self.count += 1
            if self.count == self.limit:
                os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def _writes(args: tuple) -> bool:
        flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
        return bool(flags & (os.O_WRONLY | os.O_RDWR))


def _measure(function: Any, args: tuple, note: str, folder: str) -> None:
    counter, began = _Operations(folder), time.process_time()
    sys.addaudithook(counter)
    code: Any = 0
    try:
        function(*args)
    except SystemExit as leaving:
        code = leaving.code
    Path(note).write_text(json.dumps({'cpu': time.process_time() - began, 'operations': counter.count}))
    sys.exit(code)
