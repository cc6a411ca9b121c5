"""Detectors that start fresh and train on generated COCO: files, transforms and the step, with all hooks."""

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from harness.counting import cuda_syncs
from harness.task import Missing, Settings, Task
from mmengine.config import Config
from peers.mm_runner import build_loop

from mmselfsup_graft.engine.train import enable_amp, load_config
from mmselfsup_graft.errors import ConfigError

sys.path.append(str(Path(__file__).parents[2] / 'tests'))
import tiny_downstream

IMPLEMENTATIONS = ('ours',)
_FILE = tiny_downstream.CONFIGS / 'mmdetection' / 'mask-rcnn_r50-mocov2-pre_fpn_1x_coco.py'
SUBJECTS = ('mask-rcnn-r50', 'mask-rcnn-tiny')


class Detection(Task):
    """Iterations of the training loop on the batches of its own loader.

    Args:
        loop: The training loop.
        settings: Shared settings.
        keep: What must live as long as the loop.
    """

    def __init__(self, loop: Any, settings: Settings, keep: Any) -> None:
        self.loop, self.settings, self._keep = loop, settings, keep
        self.images = settings.batch_size
        self._batches = itertools.chain.from_iterable(itertools.repeat(loop.dataloader))

    def step(self) -> None:
        """Load a batch and train on it."""
        self.loop.run_iter(0, next(self._batches))

    def facts(self) -> dict[str, Any]:
        """Whether all weights are finite, and on a GPU what torch reports as synchronizing."""
        finite = all(bool(each.isfinite().all()) for each in self.loop.runner.model.parameters())
        return {'finite': finite, **({'syncs': cuda_syncs(self.step)} if self.settings.device == 'cuda' else {})}


def detector_config(subject: str, settings: Settings, folder: Path) -> Config:
    """The toolbox's Mask R-CNN on generated images, fresh; in half precision as ``--amp`` sets it.

    Raises:
        Missing: If mmdet is not installed.
    """
    data = folder / 'coco'
    tiny_downstream.write_coco(data, 4 * settings.batch_size)
    try:
        if subject.endswith('-tiny'):
            cfg = tiny_downstream.shrunk_detector(_FILE, data, folder)
        else:
            cfg = load_config(_FILE)
            cfg.train_dataloader.dataset.update(data_root=f'{data}/', metainfo=dict(classes=tiny_downstream.CLASSES))
    except ConfigError as error:
        raise Missing(str(error)) from error
    cfg.model.backbone.init_cfg = None
    cfg.train_dataloader.update(batch_size=settings.batch_size)
    if settings.precision == 'bf16':
        enable_amp(cfg)
    return cfg


def build(subject: str, implementation: str, settings: Settings) -> Task:
    """The training of a detector."""
    torch.manual_seed(0)
    folder = tempfile.TemporaryDirectory()
    return Detection(build_loop(detector_config(subject, settings, Path(folder.name)), folder.name), settings, folder)
