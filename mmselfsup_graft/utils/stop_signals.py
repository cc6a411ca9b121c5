"""SIGTERM and SIGUSR1: how Slurm, Kubernetes and spot instances ask a process to stop.

A tool that trains writes a checkpoint after the iteration at hand and leaves with :data:`EXIT_PREEMPTED`
(:class:`mmselfsup_graft.engine.PreemptionHook`); any other leaves at once with the same code, as its files are written
aside and renamed when they are complete.
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
"""Exit code of a process that was asked to stop: ``EX_TEMPFAIL`` of sysexits.h, "try again later"."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_SAME_REQUEST = 2.0  # a launcher and its process group can both get a signal, and the launcher passes its own on
_PARENT = 'GRAFT_PARENT'
_PARENT_SECONDS = 0.5
_WATCH = 'watch the parent'
_AGAIN = 'run the same command again'


class Preempted(SystemExit):
    """A run has stopped because it was asked to; the process ends with :data:`EXIT_PREEMPTED`.

    Args:
        message: What was done and how to continue.
        together: Every process of the launch stops at this point.
    """

    def __init__(self, message: str, together: bool = False) -> None:
        super().__init__(EXIT_PREEMPTED)
        self.message, self.together = message, together

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """What was asked of this process.

    Attributes:
        number: The signal that came while it was deferred; None if there was none.
        since: When it came, by :func:`time.monotonic`.
        advice: Tells how to continue what this process does, as far as it has come; a training sets it.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.since = 0.0
        self.advice: Callable[[], str] = lambda: _AGAIN
        self.deferred = False
        self.process = os.getpid()

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Handler of both signals: remember it where that is wanted; leave at once otherwise, and the second time."""
        if os.getpid() != self.process:
            return  # a worker of a data loader, a fork of the process that is meant
        now = time.monotonic()
        if self.number is None and self.deferred:
            self.number, self.since = number, now
        elif self.number is None or now - self.since >= _SAME_REQUEST:
            self.leave(signal.Signals(number).name)

    def leave(self, why: str) -> None:
        """End the process here and now."""
        os.write(2, f'stopped by {why}; {self.advice()}\n'.encode())
        os._exit(EXIT_PREEMPTED)


request = StopRequest()
"""The one of this process."""


@contextmanager
def handled() -> Iterator[None]:
    """Handle both signals within the block; outside the main thread, where Python refuses it, they are left alone."""
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
    """Within the block the first signal is remembered and nothing else; whoever opened the block looks and acts.

    Raises:
        Preempted: At the end of the block, if nobody has looked at a signal that came before it.
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
    """The variables with which a process is started that calls :func:`die_with_parent`."""
    return {**environment, _PARENT: str(os.getpid())}


def die_with_parent() -> None:
    """End this process when the one that started it is gone, however it went; it leaves no orphan that still writes.

    The parent named by :func:`with_parent` may be gone before we get here; otherwise it is the present one.
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
    """How a process ended, in words: ``exit code 3``, ``killed by SIGKILL (out of memory?)``.

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

    The first one to fail makes its launcher kill the others, whose exit codes would then hide that of the first.
    """
    sys.modules['torch'].distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
