"""Workers of data loaders and signals to their process group."""

import os
import signal
import subprocess
import time

import torch

from mmselfsup_graft.engine.launching.loader_workers import keep_workers_running


class Pids(torch.utils.data.Dataset):
    """The worker's process id and whether its own preparation was called."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[int, str]:
        return os.getpid(), os.environ.get('PREPARED', '')


def prepare(worker: int) -> None:
    os.environ['PREPARED'] = f'by {worker}'


def test_a_worker_ends_by_its_own_process_alone():
    loader = torch.utils.data.DataLoader(
        Pids(), batch_size=None, num_workers=1, worker_init_fn=prepare, persistent_workers=True
    )
    keep_workers_running(loader)
    batches = iter(loader)
    pid, prepared = next(batches)
    assert prepared == 'by 0'
    subprocess.run(['kill', '-TERM', str(pid)], check=True)  # as torchrun and Slurm do
    time.sleep(0.3)
    assert {worker for worker, _ in batches} == {pid}
    os.kill(pid, signal.SIGTERM)
    end = time.time() + 30
    while batches._workers[0].is_alive():
        assert time.time() < end
        time.sleep(0.05)
    assert batches._workers[0].exitcode == 0
