"""Trainings that are asked to stop, and two that want the same folder."""

import random
import signal
from pathlib import Path

from .children import Kill, run, start
from .scenario import Failure
from .training import Training

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: what schedulers take for "try again later"


class AskedToStop(Training):
    """SIGTERM or SIGUSR1 at any moment: a checkpoint, the documented exit code, and the same bits once resumed."""

    share = 0.5

    def __init__(self) -> None:
        super().__init__('cl')
        self.name = 'asked to stop'

    def round(self, folder: Path, draw: random.Random) -> str:
        """Ask once or twice, run to the end."""
        work = folder / 'run'
        for _ in range(draw.randint(1, 2)):
            number = draw.choice([signal.SIGTERM, signal.SIGUSR1])
            kill = Kill(number.name, draw.uniform(0.02, 1.0) * self.measure.cpu)
            ended = run(*self.work(work), log=folder / 'asked.log', kill=kill, folder=work)
            begun = (work / 'history.jsonl').is_file()
            if ended.code not in (0, EXIT_PREEMPTED) and (begun or ended.code != -number):
                raise Failure(f'{kill}: ended with {ended.code}: {ended.text[-2000:]}')
            if ended.code == EXIT_PREEMPTED and begun and not list(work.glob('*_*.pth')):
                raise Failure(f'{kill}: no checkpoint: {ended.text[-2000:]}')
        again = run(*self.work(work), log=folder / 'resumed.log')
        if again.code != 0:
            raise Failure(f'{kill}: the resumed run ended with {again.code}: {again.text[-2000:]}')
        self.compare(work)
        return f'{number.name}: {ended.code}'


class TwoWriters(Training):
    """The same training is started twice in one folder: one is refused in one line, and the result is whole."""

    share = 0.3

    def __init__(self) -> None:
        super().__init__('mim')
        self.name = 'two writers'

    def round(self, folder: Path, draw: random.Random) -> str:
        """Start both at the same time."""
        work = folder / 'run'
        logs = [folder / f'{number}.log' for number in range(2)]
        both = [start(*self.work(work), log=log) for log in logs]
        for process in both:
            process.join(300)
        codes = sorted(process.exitcode for process in both)
        texts = [log.read_text(errors='replace') for log in logs]
        refused = [text for text in texts if len([x for x in text.splitlines() if x.startswith('error: ')]) == 1]
        # one after the other is fine: the second one finds nothing left to do
        if codes not in ([0, 0], [0, 1]) or len(refused) != codes[1]:
            raise Failure(f'ended with {codes}: {[text[-1000:] for text in texts]}')
        self.compare(work)
        return 'one refused' if codes[1] else 'one after the other'
