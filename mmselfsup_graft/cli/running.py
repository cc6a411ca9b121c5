"""Running a command: errors as one line, exit codes, signals."""

import atexit
import logging
import multiprocessing
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.ops.finder import VALUES
from mmselfsup_graft.ops.finder import VARIABLE as OPERATORS
from mmselfsup_graft.utils.files import is_disk_full, is_shared_memory_full
from mmselfsup_graft.utils.stop_signals import EXIT_PREEMPTED, Preempted, exit_reason, exit_together, handled, request
from mmselfsup_graft.utils.suggestions import did_you_mean

# variables of the environment that commands, scripts and tests read
_VARIABLES = tuple(
    f'GRAFT_{name}'
    for name in (
        'GOLDEN', 'MIRROR', 'MMCV_OPS', 'MMCV_WHEEL', 'OFFLINE', 'PARENT', 'PYTHON', 'TEST_DEVICE', 'TRACEBACK', 'VENV',
        'WEIGHTS', 'WHEELS',
    )
)  # fmt: skip


def run_tool(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> None:
    """Run ``main`` and exit: 0 on success, 1 with a one-line error, 75 if stopped by a signal.

    Set GRAFT_TRACEBACK=1 to see where an error came from.
    """
    # schedules step at every iteration, optimizers of accumulated gradients not at the first: nothing is skipped
    warnings.filterwarnings('ignore', message='Detected call of `scheduler.step')
    logging.raiseExceptions = False  # no traceback of a log that cannot be written besides the line below
    try:
        check_variables(os.environ)
        with handled():
            code = main(argv) or 0
        _leave_process_group(code)
        sys.exit(code)
    except Preempted as stopped:
        with handled():  # the launcher may send the signal again
            if _is_first():
                print(f'\n{stopped}', file=sys.stderr)
            _end_workers()
            if stopped.together:
                exit_together(EXIT_PREEMPTED)
            sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        print(f'\ninterrupted; {request.advice()}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get('GRAFT_TRACEBACK'):
            raise
        sys.stdout.flush()
        print(f'error: {describe(error)}', file=sys.stderr)
        sys.exit(getattr(error, 'exit_code', 1))


def check_variables(environment: Mapping[str, str]) -> None:
    """Warn about variables of the environment that look like ours and that nothing reads.

    Raises:
        ConfigError: If one of ours has a value without meaning.
    """
    operators = environment.get(OPERATORS, '')
    if operators not in VALUES:
        raise ConfigError(f'{OPERATORS} is {operators!r}, expected torchvision, compiled or nothing')
    for name in environment if _is_first() else ():
        if name.startswith('GRAFT_') and name not in _VARIABLES:
            print(f'warning: nothing reads {name}{did_you_mean(name, _VARIABLES)}', file=sys.stderr)


def _is_first() -> bool:
    """Whether this is the first process of a launch, or the only one."""
    return int(os.environ.get('RANK', 0)) == 0


def _end_workers() -> None:
    """End the workers of data loaders, which torch would wait for."""
    for child in multiprocessing.active_children():
        child.terminate()


def _leave_process_group(code: int) -> None:
    """Shut down torch's communication and exit, if this is one of several processes.

    The threads of a process group that is still referred to (by DDP for example) can abort a process while Python shuts
    down, after all work is done.
    """
    torch = sys.modules.get('torch')
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def describe(error: BaseException) -> str:
    """One line for an error: the message of a GraftError, also of a nested one, or its type and first line."""
    full = _what_is_full(error)
    if full is not None:
        return full
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GraftError):
            return ' '.join(_own_message(cause).split())
        cause = cause.__cause__ or cause.__context__
    killed = _killed_worker(error)
    if killed:
        return killed
    text = ' '.join(str(error).split())
    if isinstance(error, OSError):
        return text[:400]
    if 'Original Traceback' in text:
        return f'{_last_lines(str(error))} (in a data-loading worker; set GRAFT_TRACEBACK=1 to see where)'
    return f'{type(error).__name__}: {text[:400]} (set GRAFT_TRACEBACK=1 to see where)'


def _killed_worker(error: BaseException) -> str | None:
    """Message if the cause is a killed worker, which torch raises anywhere in the process; else None."""
    cause: BaseException | None = error
    said = None
    while cause is not None:
        found = re.search(
            r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: (\w+)|exited)', str(cause)
        )
        if found:
            said = f'a data-loading worker (PID {found[1]}) was {_killed_by(found[2])}'
        cause = cause.__cause__ or cause.__context__
    return said  # of the innermost error, which has the signal


def _killed_by(description: str | None) -> str:
    """``killed by SIGKILL (out of memory?)`` for what :func:`signal.strsignal` calls ``Killed``."""
    numbers = [each for each in signal.Signals if (signal.strsignal(each) or '').startswith(description or '?')]
    return exit_reason(-numbers[0]) if numbers else 'killed'


def _last_lines(text: str) -> str:
    """The error message after the last line of code in a traceback."""
    lines = text.rstrip().splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith('  ')), default=-1)
    return ' '.join(' '.join(lines[last + 1 :]).split())


def _what_is_full(error: BaseException) -> str | None:
    """Message if shared memory, or a disk without a specific message, is full."""
    if is_shared_memory_full(error):
        return (
            'shared memory (/dev/shm), through which loader workers pass their batches, is full: set '
            'train_dataloader.num_workers=0, or start the container with more of it (docker run --shm-size=8g)'
        )
    if is_disk_full(error) and isinstance(error, OSError):
        text = ' '.join(str(error).split())[:400]
        return f'a file could not be written, the disk is full ({text}); free space and run the command again'
    return None


def _own_message(error: GraftError) -> str:
    """The message only: a loader worker adds its traceback."""
    text = str(error)
    return text.rpartition(f'{type(error).__name__}: ')[2] if 'Original Traceback' in text else text
