"""A batch that is kept until its step is known to be finite."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.datasets.augment import unpack

FILE = 'nonfinite_batch.pth'


@dataclass
class KeptBatch:
    """A batch and its position in a run.

    Attributes:
        iteration: Iteration of the run, from 0.
        epoch: Its epoch.
        number: Number of the batch within the epoch.
        data: As the loader gave it.
    """

    iteration: int
    epoch: int
    number: int
    data: Any

    def image_names(self, runner: Runner) -> list[str] | None:
        """Paths or numbers of the images; None if sampler and dataset do not provide them."""
        loader: Any = runner.train_dataloader
        dataset: Any = getattr(loader, 'dataset', None)
        size = getattr(loader, 'batch_size', None)
        if size is None or not hasattr(dataset, 'get_data_info') or not hasattr(loader.sampler, 'skip'):
            return None
        sampler = copy.copy(loader.sampler)
        sampler.epoch = self.epoch
        sampler.skip(0)
        indices = islice(iter(sampler), self.number * size, (self.number + 1) * size)
        infos = [dataset.get_data_info(index % len(dataset)) for index in indices]
        return [str(info.get('img_path') or f'image {info["sample_idx"]}') for info in infos]

    def keep(self, runner: Runner, **facts: Any) -> str:
        """Write the batch and the given facts into the work directory; return a text with its path or the error."""
        path = Path(runner.work_dir) / FILE
        content = {**self._tensors(), 'iter': self.iteration, 'images': self.image_names(runner), **facts}
        try:
            save_atomically(content, path)
        except (OSError, RuntimeError) as error:
            return f'the batch could not be kept in {path} ({error})'
        return f'the batch is kept in {path}'

    def _tensors(self) -> dict[str, Any]:
        """Images, and what is left to do to them: for each view a list of operations, by name, with named numbers."""
        found = {'inputs': self.data['inputs']} if 'inputs' in self.data else {}
        if 'augment' in self.data:
            packed = self.data['augment']
            views = [packed] if isinstance(packed, Mapping) else packed
            found['augment'] = [
                [{'row': type(row).__name__, **row._asdict()} for row in unpack(each)] for each in views
            ]
        return found
