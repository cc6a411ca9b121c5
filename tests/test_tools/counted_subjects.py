"""Subjects for the benchmark harness whose counts are known: named as the kind of a contest, in its processes too."""

import os
import time
from pathlib import Path
from typing import Any

import cv2
import torch
from harness.counting import count_step
from harness.task import Missing, Settings, Task
from torch import nn

WIDTHS = (3, 5)


class Linear(Task):
    """A step of a linear layer; ``reading`` looks at its loss, ``logging`` writes its turns into a file."""

    note = 'a note'

    def __init__(self, subject: str, name: str, settings: Settings) -> None:
        self.images, self.name, self.log = settings.batch_size, name, Path(subject)
        torch.manual_seed(0)
        self.model = nn.Linear(*WIDTHS)
        self.data = torch.randn(self.images, WIDTHS[0])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=name == 'fused')

    def step(self) -> None:
        if self.log.suffix == '.log':
            with self.log.open('a') as file:
                file.write(f'{self.name}\n')
        loss = self.model(self.data).square().sum()
        if self.name == 'reading':
            loss.item()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def facts(self) -> dict[str, Any]:
        return count_step(self.step, self.images)


class Threads(Task):
    """Does nothing; its facts are the threads of OpenCV and of torch."""

    def step(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {'threads': [cv2.getNumThreads(), torch.get_num_threads()]}


def build(subject: str, implementation: str, settings: Settings) -> Task:
    if implementation == 'missing':
        raise Missing('it is not here')
    if implementation == 'broken':
        raise ValueError('it broke')
    if implementation == 'killed':
        time.sleep(0.01)
        os._exit(7)
    if implementation == 'threads':
        return Threads()
    return Linear(subject, implementation, settings)
