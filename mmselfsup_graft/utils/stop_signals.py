"""SIGTERM and SIGUSR1: how Slurm, Kubernetes and spot instances ask a process to stop.

A training command writes a checkpoint after the current iteration and exits with :data:`EXIT_PREEMPTED`
(:class:`mmselfsup_graft.engine.PreemptionHook`); other commands exit at once with the same code, as their files are
written atomically.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_PREEMPTED = 75
"""Exit code of a process that was stopped by a signal: ``EX_TEMPFAIL`` of sysexits.h, "try again later"."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_SAME_REQUEST = 2.0  # seconds; a launcher and its process group can both get a signal, and the launcher passes it on
_PARENT = 'GRAFT_PARENT'
_PARENT_SECONDS = 0.5
_WATCH = 'watch the parent'
_AGAIN = 'run the same command again'


class Preempted(SystemExit):
    """A run was stopped by a signal; the process ends with :data:`EXIT_PREEMPTED`.

    Args:
        message: What was saved and how to continue.
        together: Whether every process of the launch stops at this point.
    """

    def __init__(self, message: str, together: bool = False) -> None:
        super().__init__(EXIT_PREEMPTED)
        self.message, self.together = message, together

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """A request to stop this process.

    Attributes:
        number: The signal that came while it was deferred; None if there was none.
        since: When it came, by :func:`time.monotonic`.
        advice: Returns a text on how to continue; set by a training.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.since = 0.0
        self.advice: Callable[[], str] = lambda: _AGAIN
        self.deferred = False
        self.process = os.getpid()

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Handler of both signals: store the signal if deferred; exit at once otherwise, and the second time."""
        if os.getpid() != self.process:
            return  # a data-loading worker, a fork of the process
        now = time.monotonic()
        if self.number is None and self.deferred:
            self.number, self.since = number, now
        elif self.number is None or now - self.since >= _SAME_REQUEST:
            self.leave(signal.Signals(number).name)

    def leave(self, why: str) -> None:
        """Exit immediately."""
        os.write(2, f'stopped by {why}; {self.advice()}\n'.encode())
        os._exit(EXIT_PREEMPTED)


request = StopRequest()
"""The request of this process."""


@contextmanager
def handled() -> Iterator[None]:
    """Handle both signals within the block; no effect outside the main thread, where Python does not allow it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    request.process = os.getpid()
    before = {number: signal.signal(number, request.handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def deferred() -> Iterator[StopRequest]:
    """Within the block the first signal is only stored; the caller must check it and act.

    Raises:
        Preempted: At the end of the block, if a stored signal was not handled.
    """
    with handled():
        request.number, request.deferred = None, True
        try:
            yield request
        finally:
            request.deferred = False
        if request.number is not None:
            raise Preempted(f'stopped by {signal.Signals(request.number).name}; {request.advice()}')


def with_parent(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a process that calls :func:`die_with_parent`."""
    return {**environment, _PARENT: str(os.getpid())}


def die_with_parent() -> None:
    """End this process when its parent has ended in any way, so that no orphan keeps writing.

    The parent is the one set by :func:`with_parent`, which may have ended already, else the current one.
    """
    if any(thread.name == _WATCH for thread in threading.enumerate()):
        return
    parent = int(os.environ.pop(_PARENT, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=_WATCH).start()


def exit_reason(code: int) -> str:
    """Description of how a process ended: ``exit code 3``, ``killed by SIGKILL (out of memory?)``.

    Args:
        code: As of :attr:`subprocess.Popen.returncode`, negative for a signal.
    """
    if code >= 0:
        return f'exit code {code}'
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f'signal {-code}'
    return f'killed by {name}' + (' (out of memory?)' if -code == signal.SIGKILL else '')


def exit_together(code: int) -> None:
    """End the processes of a launch at the same moment; all of them must call this.

    The launcher kills the others when the first one fails; their exit codes would hide that of the first.
    """
    sys.modules['torch'].distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
