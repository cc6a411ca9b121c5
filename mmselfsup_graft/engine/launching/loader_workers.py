"""Data-loading workers that outlive a signal to their process group."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from torch.utils.data import DataLoader


def keep_workers_running(loader: DataLoader) -> None:
    """Let the workers of a loader end on SIGTERM from their parent only.

    Slurm and torchrun send it to the whole process group. A worker that ends by it makes the training process fail
    before it has written its checkpoint.
    """
    if loader.num_workers > 0:
        loader.worker_init_fn = partial(_start, loader.worker_init_fn)


def _start(inner: Callable[[int], None] | None, worker: int) -> None:
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if inner is not None:
        inner(worker)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
