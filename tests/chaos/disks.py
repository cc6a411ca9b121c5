"""A disk that is full in the middle of a training."""

import random
from pathlib import Path

from test_tools.tiny_runs import load

from .children import Kill, run
from .scenario import Failure
from .training import Training


class FullDisk(Training):
    """Writes fail beyond a size of file; what was written before must be whole, and the run must resume to its end.

    A limit on the size of files (RLIMIT_FSIZE) stands for the full disk: the write that goes beyond it is cut short
    and the next one fails with an error of the operating system.
    """

    share = 0.5

    def __init__(self) -> None:
        super().__init__('mim')
        self.name = 'full disk'

    def round(self, folder: Path, draw: random.Random) -> str:
        """Fail, look at what is there, run to the end."""
        work = folder / 'run'
        limit = draw.randint(self.measure.largest // 20, self.measure.largest)
        ended = run(*self.work(work), log=folder / 'full.log', kill=Kill('full', limit), folder=work)
        outcome = 'noticed'
        if ended.code == 0:
            outcome = 'enough'
        elif ended.error is None:
            raise Failure(f'limit {limit}: ended with {ended.code}, expected one line: {ended.text[-2000:]}')
        elif str(work) not in ended.error:
            raise Failure(f'limit {limit}: the error does not name a file: {ended.error}')
        for path in work.glob('*_*.pth'):
            load(path)
        ended = run(*self.work(work), log=folder / 'resumed.log')
        if ended.code != 0:
            raise Failure(f'limit {limit}: with room again it ended with {ended.code}: {ended.text[-2000:]}')
        self.compare(work)
        return outcome
