"""torchrun with our exit codes: ``python -m mmselfsup_graft.cli.torchrun [arguments of torchrun]``.

torchrun passes SIGTERM and SIGUSR1 on to its processes and waits 30 seconds for them, but always exits with
1. Here a launch that was stopped by a signal ends with 75, and a failed one reports the first failed process.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

from mmselfsup_graft.utils.stop_signals import EXIT_PREEMPTED, exit_reason, with_parent

_PREEMPTING = (signal.SIGTERM, signal.SIGUSR1)


def main(argv: Sequence[str] | None = None) -> int:
    """Launch and return the exit code."""
    arguments = [
        '--signals-to-handle',
        'SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT',
        *(sys.argv[1:] if argv is None else argv),
    ]
    os.environ.update(with_parent({}))
    # the end is reported below
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        run(get_args_parser().parse_args(arguments))
    except SignalException as error:
        return EXIT_PREEMPTED if error.sigval in _PREEMPTING else 128 + error.sigval
    except ChildFailedError as error:
        # processes that torchrun stopped afterwards are not the cause; within one second, a killed process is
        ended = EXIT_PREEMPTED, -signal.SIGTERM
        failed = {rank: each for rank, each in error.failures.items() if each.exitcode not in ended}
        if not failed:
            return EXIT_PREEMPTED
        rank = min(failed, key=lambda rank: (failed[rank].timestamp, failed[rank].exitcode))
        how = exit_reason(failed[rank].exitcode)
        print(f'error: rank {rank} (PID {failed[rank].pid}): {how}; the others were stopped', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
