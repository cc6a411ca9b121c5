"""Trainings that are killed, several times over, and resumed."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from test_tools.test_finetune import BACKBONE, WIDTH, finetune_config
from test_tools.tiny_runs import assert_same_run, merged, tiny_config, write_config
from tiny_finetuning import write_contrastive

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

    last = 'iter_8.pth'

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
        last = self.whole / self.last
        try:
            assert_same_run(work / last.name, last)
        except AssertionError as error:
            raise Failure(f'{work / last.name} differs: {error}') from error
        if (work / 'history.jsonl').read_text() != (self.whole / 'history.jsonl').read_text():
            raise Failure(f'{work / "history.jsonl"} differs')
        left = [path.name for path in work.glob('.*.pth.tmp')]
        if left:
            raise Failure(f'{work} holds {left}')


class FineTuning(Training):
    """The same for fine-tuning, whose result must also be that of an undisturbed run."""

    share = 0.5
    last = 'epoch_4.pth'

    def __init__(self) -> None:
        super().__init__('mim')
        self.name = 'fine-tune, killed'

    def prepare(self, folder: Path) -> None:
        """Run it once, undisturbed."""
        self.config, self.whole = write_config(folder / 'config.py', finetune_config()), folder / 'whole'
        self.start = folder / 'moco.pth'
        run(write_contrastive, BACKBONE, WIDTH, self.start, log=folder / 'start.log')
        self.measure = measured(*self.work(self.whole), log=folder / 'whole.log', folder=self.whole)

    def work(self, folder: Path) -> tuple[Any, ...]:
        """What a process does."""
        return tool, 'finetune', self.config, self.start, '--work-dir', folder, '--resume'

    def compare(self, work: Path) -> None:
        """Checkpoint, history and accuracy."""
        super().compare(work)
        rows = [json.loads((each / 'results.jsonl').read_text().splitlines()[-1]) for each in (work, self.whole)]
        if rows[0]['result'] != rows[1]['result']:
            raise Failure(f'result {rows[0]["result"]}, undisturbed {rows[1]["result"]}')
