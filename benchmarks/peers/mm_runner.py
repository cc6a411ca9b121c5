"""Runners of the OpenMMLab family that stop before their first iteration, so that a benchmark can run the steps."""

import logging
import uuid
from collections.abc import Sequence
from typing import Any

import torch
from harness.task import Settings
from mmengine.config import Config
from mmengine.registry import DATASETS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Dataset

from mmselfsup_graft.engine import GraftRunner, ResumableEpochLoop


class _Paused:
    """Mixin of a loop: ``run`` prepares everything for :meth:`run_iter` and returns."""

    def run(self) -> Any:
        """Announce a training to the hooks."""
        self.runner.call_hook('before_train')  # type: ignore[attr-defined]
        self.runner.call_hook('before_train_epoch')  # type: ignore[attr-defined]
        self.runner.model.train()  # type: ignore[attr-defined]
        return self.runner.model  # type: ignore[attr-defined]


@LOOPS.register_module()
class PausedEpochBasedTrainLoop(_Paused, EpochBasedTrainLoop):
    """mmengine's loop, controlled from outside."""


@LOOPS.register_module()
class PausedResumableEpochLoop(_Paused, ResumableEpochLoop):
    """The toolbox's loop, controlled from outside."""


@DATASETS.register_module()
class NoImages(Dataset):
    """Placeholder for a data set of which only the length is used."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


def build_loop(cfg: Config, folder: str) -> Any:
    """Build by the runner of the config, initialize, and return the loop, ready for ``run_iter(index, batch)``."""
    cfg.work_dir, cfg.experiment_name = folder, f'benchmark_{uuid.uuid4().hex}'
    cfg.launcher, cfg.resume, cfg.log_level = 'none', False, 'ERROR'
    # hooks after an epoch are not part of a step
    cfg.custom_hooks = []
    cfg.default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=-1)
    for part in ('val', 'test'):
        for section in ('dataloader', 'cfg', 'evaluator'):
            cfg.pop(f'{part}_{section}', None)
    cfg.train_cfg = dict(cfg.train_cfg, type=f'Paused{cfg.train_cfg["type"]}')
    logging.disable(logging.WARNING)
    runner = (Runner if cfg.get('default_scope') == 'mmpretrain' else GraftRunner).from_cfg(cfg)
    runner.train()
    return runner.train_loop


def no_images(batch_size: int, epochs: int = 1000) -> dict[str, Any]:
    """Config of a loader that only has a length."""
    return dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='NoImages', length=batch_size * epochs),
    )


def batch_of(cfg: Config, settings: Settings, sides: Sequence[int]) -> dict[str, Any]:
    """A batch of uint8 noise on the device, as the loaders of the family deliver one, with a side for each view."""
    from mmpretrain.structures import DataSample

    side, count = cfg.benchmark_side, settings.batch_size
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (count, 3, each, each), dtype=torch.uint8, generator=generator).to(settings.device)
        for each in sides
    ]
    samples = [DataSample() for _ in range(count)]
    for sample in samples:
        # what mmpretrain's SimMIM reads: blocks of 32 pixels, in units of 16; all samples hide the same share
        mask = torch.zeros((side // 32) ** 2, dtype=torch.float32)
        mask[torch.randperm(len(mask), generator=generator)[: round(0.6 * len(mask))]] = 1
        mask = mask.view(side // 32, side // 32).repeat_interleave(2, 0).repeat_interleave(2, 1)
        sample.set_field(mask.to(settings.device), 'mask')
    return {'inputs': images if len(sides) > 1 else images[0], 'data_samples': samples}
