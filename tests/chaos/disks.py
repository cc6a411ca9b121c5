"""A disk that is full in the middle of a training."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from test_tools.tiny_runs import load

from .children import Kill, run
from .scenario import Failure
from .training import Training


class FullDisk(Training):
    """Writes fail for want of space; what was written before must be whole, and with space the run must continue.

    The work directory is a small file system in memory where this process may mount one. Elsewhere a limit on the size
    of files (RLIMIT_FSIZE) stands for it, whose errors need not name the file.
    """

    share = 0.5

    def __init__(self) -> None:
        super().__init__('mim')
        self.name = 'full disk'

    def round(self, folder: Path, draw: random.Random) -> str:
        """Fail, look at what is there, make space, run to the end."""
        work = folder / 'run'
        work.mkdir()
        needed = sum(path.stat().st_size for path in self.whole.rglob('*') if path.is_file())
        share = draw.uniform(0.1, 1.2)
        with _small_disk(work, int(share * needed)) as mounted:
            kill = None if mounted else Kill('full', int(share * self.measure.largest))
            ended = run(*self.work(work), log=folder / 'full.log', kill=kill, folder=work)
            outcome = ('disk' if mounted else 'limit') + (' was enough' if ended.code == 0 else ' was full')
            if ended.code != 0 and ended.error is None:
                raise Failure(f'{outcome}: ended with {ended.code}, expected one line: {ended.text[-2000:]}')
            if mounted and ended.error and str(work) not in ended.error:
                raise Failure(f'{outcome}: the error does not name a file: {ended.error}')
            for path in work.glob('*_*.pth'):
                load(path)
            if mounted:
                subprocess.run(['mount', '-o', 'remount,size=256m', str(work)], check=True)
            ended = run(*self.work(work), log=folder / 'resumed.log')
            if ended.code != 0:
                raise Failure(f'{outcome}: with space it ended with {ended.code}: {ended.text[-2000:]}')
            self.compare(work)
        return outcome


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mount a file system of so many bytes there; yields whether that worked."""
    options = ['-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)]
    mounted = subprocess.run(['mount', *options], capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(['umount', str(folder)], check=True)
