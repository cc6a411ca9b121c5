"""Processes of a training that die: one of two ranks, or a worker that loads data."""

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from test_tools.tiny_runs import assert_same_run, merged, tiny_config, write_config

from .children import run, start, tool
from .scenario import Failure, Scenario
from .training import Training

_PATIENCE = 60.0  # seconds in which what is left must end


class DeadRank(Scenario):
    """One of two processes of a training is killed; the other one must end soon, with an error."""

    name = 'dead rank'
    share = 0.3

    def prepare(self, folder: Path) -> None:
        """Write a config that runs for long."""
        content = tiny_config('cl', images=64, batch=8, epochs=500)
        self.config = write_config(
            folder / 'config.py', merged(content, {'env_cfg': dict(dist_cfg=dict(backend='gloo'))})
        )

    def round(self, folder: Path, draw: random.Random) -> str:
        """Start both, kill one, wait for the other."""
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        work = folder / 'run'
        ranks = [start(rank_main, rank, port, self.config, work, log=folder / f'{rank}.log') for rank in range(2)]
        try:
            _wait(lambda: (work / 'progress.json').is_file() or not all(rank.is_alive() for rank in ranks))
            time.sleep(draw.uniform(0, 1))
            victim = draw.randrange(2)
            if not all(rank.is_alive() for rank in ranks):
                raise Failure(f'ended by itself: {(folder / "0.log").read_text()[-2000:]}')
            os.kill(ranks[victim].pid, signal.SIGKILL)
            other = ranks[1 - victim]
            other.join(_PATIENCE)
            if other.exitcode is None:
                raise Failure(f'rank {1 - victim} still runs {_PATIENCE:.0f} s after the death of rank {victim}')
            if other.exitcode == 0:
                raise Failure(f'rank {1 - victim} ended with 0')
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
        return f'rank {victim} killed'


def rank_main(rank: int, port: int, config: Path, work: Path) -> None:
    """A rank, in a process of its own."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    tool('train', config, '--work-dir', work, '--launcher', 'pytorch')


class DeadWorker(Training):
    """A worker that loads data is killed; the training must end soon, with an error, and resume to its end."""

    share = 0.5

    def __init__(self) -> None:
        super().__init__('mim')
        self.name = 'dead worker'

    def prepare(self, folder: Path) -> None:
        """As for a training, and the same with workers and without an end."""
        super().prepare(folder)
        text = self.config.read_text()
        self.endless = folder / 'endless.py'
        more = "train_dataloader.update(num_workers=2, persistent_workers=True)\ntrain_cfg['max_epochs'] = 5000\n"
        self.endless.write_text(text + more)

    def round(self, folder: Path, draw: random.Random) -> str:
        """Kill one of two workers."""
        work = folder / 'run'
        process = start(tool, 'train', self.endless, '--work-dir', work, log=folder / 'worker.log')
        try:
            _wait(lambda: len(_children(process.pid)) >= 2 or not process.is_alive())
            time.sleep(draw.uniform(0, 0.5))
            workers = _children(process.pid)
            if len(workers) < 2:
                raise Failure(f'no workers: {(folder / "worker.log").read_text()[-2000:]}')
            os.kill(draw.choice(workers[:2]), signal.SIGKILL)
            process.join(_PATIENCE)
            text = (folder / 'worker.log').read_text()
            if process.exitcode is None:
                raise Failure(f'still runs {_PATIENCE:.0f} s after the death of a worker: {text[-500:]}')
            if process.exitcode == 0 or 'error: ' not in text:
                raise Failure(f'ended with {process.exitcode}: {text[-2000:]}')
        finally:
            process.kill()
            process.join()
        if any(_alive(worker) for worker in workers):
            raise Failure('a worker outlives the training')
        for path in work.glob('iter_*.pth'):  # of another length than the undisturbed run
            path.unlink()
        ended = run(*self.work(work), log=folder / 'again.log')
        if ended.code != 0:
            raise Failure(f'run again it ended with {ended.code}: {ended.text[-2000:]}')
        assert_same_run(work / 'iter_8.pth', self.whole / 'iter_8.pth')
        return 'worker killed'


def _wait(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f'nothing happened for {seconds:.0f} s')
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    path = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(each) for each in path.read_text().split()] if path.is_file() else []


def _alive(pid: int) -> bool:
    path = Path(f'/proc/{pid}/stat')
    return path.is_file() and path.read_text().rpartition(')')[2].split()[0] != 'Z'
