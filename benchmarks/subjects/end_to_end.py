"""The whole loop: JPEG files, loader processes, and training steps of the toolbox on the device.

The model is the same in all rows; the rows differ in the way of the data. A subject is a model; a step is one
iteration, and ``waiting`` is the time spent in asking the loader for the next batch.
"""

import tempfile
import time
from typing import Any

import torch
from harness.task import Settings, Task
from peers import mm_configs
from peers.mm_runner import build_loop

from . import pipelines
from .loader import FAST, MMPRETRAIN, OURS, PIL, endless_batches, lead_in
from .step import set_switches

IMPLEMENTATIONS = (PIL, MMPRETRAIN, OURS, *FAST)
MODELS = ('mae-tiny', 'mae-vit-s', 'mae-vit-b', 'mocov3-tiny', 'mocov3-vit-s', 'mocov3-vit-b', 'lgp-vit-b')


class Training(Task):
    """Iterations fed by a loader; every block starts the loader anew and times what comes after the lead-in.

    Args:
        loop: The training loop.
        dataset: Images with their pipeline.
        collate: Makes a batch of samples.
        settings: Shared settings.
        keep: What must live as long as the loop.
    """

    def __init__(self, loop: Any, dataset: Any, collate: Any, settings: Settings, keep: Any) -> None:
        self.loop, self.dataset, self.collate, self.settings, self._keep = loop, dataset, collate, settings, keep
        self.images = settings.batch_size
        self.cpu_of_children = settings.workers > 0

    def block(self, clock: Any, steps: int) -> dict[str, float]:
        """Time of ``steps`` iterations and the part of it that was spent waiting for data."""
        batches = endless_batches(self.dataset, self.collate, self.settings)
        for _ in range(lead_in(self.settings.workers)):
            self.loop.run_iter(0, as_training_batch(next(batches)))
        waiting = 0.0
        with clock:
            for _ in range(steps):
                asked = time.perf_counter()
                batch = next(batches)
                waiting += time.perf_counter() - asked
                self.loop.run_iter(0, as_training_batch(batch))
        return {**clock.seconds, 'waiting': waiting}


def as_training_batch(batch: Any) -> dict[str, Any]:
    """What the loop takes; batches of the official pipeline are bare tensors, normalized already."""
    if isinstance(batch, dict):
        return batch
    views = batch if isinstance(batch, torch.Tensor) else list(batch)
    return {'inputs': views, 'data_samples': None}


def build(subject: str, implementation: str, settings: Settings) -> Task:
    """The training of a model with one way of its data."""
    algorithm, _, size = subject.partition('-')
    recipe = 'mocov3' if algorithm in mm_configs.TWO_VIEWS else 'mae'
    set_switches(implementation, settings)
    folder = tempfile.TemporaryDirectory()
    cfg, _ = mm_configs.own_config(algorithm, size, settings, folder.name, compiled=False)
    if implementation == PIL:
        dataset, collate = pipelines.official(recipe, settings.data)
        # to the device as in the other rows; it is normalized already
        cfg.data_preprocessor = dict(type='SelfSupDataPreprocessor')
    elif implementation == MMPRETRAIN:
        dataset, collate = pipelines.of_mmpretrain(recipe, settings.data)
        cfg.data_preprocessor.to_rgb = True
    else:
        data = pipelines.own_config(recipe, settings.data, FAST.get(implementation))
        cfg.data_preprocessor = data.data_preprocessor
        dataset, collate = pipelines.of_config(data)
    if size == 'tiny':
        cfg.model.backbone.img_size = mm_configs.SIDE
        if algorithm == 'mae':
            cfg.model.neck.num_patches = (mm_configs.SIDE // 16) ** 2
    loop = build_loop(cfg, folder.name)
    return Training(loop, dataset, collate, settings, folder)
