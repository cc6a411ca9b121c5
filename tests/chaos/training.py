"""Trainings that are killed, several times over, and resumed."""

import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from test_tools.tiny_runs import assert_same_run, merged, tiny_config, write_config

from .children import Measure, measured, run, tool
from .scenario import Failure, Scenario

IMAGES = 16


def write_images(folder: Path, count: int = IMAGES) -> Path:
    """Small generated images in two folders."""
    for number in range(count):
        path = folder / f'c{number % 2}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(number).randint(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


class Training(Scenario):
    """Kill a training wherever it is; resume it; the end must have the bits of an undisturbed run."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = {'mim': 'train MAE, killed', 'cl': 'train MoCo v3, killed'}[kind]

    def prepare(self, folder: Path) -> None:
        """Run it once, undisturbed."""
        content = tiny_config(self.kind, images=IMAGES, batch=4)
        pipeline = content['train_dataloader']['dataset']['pipeline']
        data = dict(type='ImageFolder', data_root=str(write_images(folder / 'images')), pipeline=pipeline)
        content['train_dataloader']['dataset'] = data
        often = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=2)))
        self.config, self.whole = write_config(folder / 'config.py', merged(content, often)), folder / 'whole'
        self.measure: Measure = measured(*self.work(self.whole), log=folder / 'whole.log', folder=self.whole)

    def work(self, folder: Path) -> tuple[Any, ...]:
        """What a process does."""
        return tool, 'train', self.config, '--work-dir', folder, '--resume'

    def round(self, folder: Path, draw: random.Random) -> str:
        """Kill once or twice, then run to the end."""
        work, kinds = folder / 'run', []
        for _ in range(draw.randint(1, 2)):
            kill = self.measure.kill(draw)
            ended = run(*self.work(work), log=folder / 'killed.log', kill=kill, folder=work)
            if not ended.killed and ended.code != 0:
                raise Failure(f'{kill}: ended with {ended.code}: {ended.text[-2000:]}')
            kinds.append(f'at {kill.kind}' if ended.killed else 'too late')
        ended = run(*self.work(work), log=folder / 'resumed.log')
        if ended.code != 0:
            raise Failure(f'{kinds}: the resumed run ended with {ended.code}: {ended.text[-2000:]}')
        self.compare(work)
        return kinds[-1]

    def compare(self, work: Path) -> None:
        """The last checkpoint and the history must be those of the undisturbed run."""
        (last,) = sorted(self.whole.glob('iter_8.pth'))
        try:
            assert_same_run(work / last.name, last)
        except AssertionError as error:
            raise Failure(f'{work / last.name} differs: {error}') from error
        if (work / 'history.jsonl').read_text() != (self.whole / 'history.jsonl').read_text():
            raise Failure(f'{work / "history.jsonl"} differs')
        left = [path.name for path in work.glob('.*.tmp')]
        if left:
            raise Failure(f'{work} holds {left}')
