"""Epoch loop that can resume in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import LOOPS


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's epoch loop, which resumes at the very iteration where the checkpoint was written.

    Together with :class:`SeededSampler`, whose order and augmentations are functions of (seed, epoch, index), and
    :class:`RandomStateHook`, a resumed run repeats an uninterrupted one bit for bit. With any other sampler the batches
    that were done are drawn again and not loaded. Args are those of mmengine's loop.

    Raises:
        ConfigError: If the data set gives no whole batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.max_epochs < 1:
            raise ConfigError(f'train_cfg.max_epochs must be at least 1, got {self.max_epochs}')
        if len(self.dataloader) == 0:
            raise ConfigError(
                f'the training data has {len(self.dataloader.dataset)} images, fewer than one batch of '
                f'{self.dataloader.batch_size} per process; lower it: --cfg-options train_dataloader.batch_size=N'
            )

    def validates_after(self, epochs: int) -> bool:
        """Whether mmengine's loop validates when ``epochs`` epochs are done: at the interval and after the last one."""
        if self.runner.val_loop is None or epochs < self.val_begin:
            return False
        return epochs % self.val_interval == 0 or epochs == self.max_epochs

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of the one that a checkpoint was written in."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if done != len(self.dataloader):  # equal: the checkpoint was written by the last iteration of its epoch
            self._skip(done)
            batches = iter(self.dataloader)
            for index in range(done, len(self.dataloader)):
                self.run_iter(index, next(batches))
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _skip(self, iterations: int) -> None:
        if iterations == 0:
            return
        loader = self.dataloader
        if not 0 < iterations < len(loader):
            raise ConfigError(
                f'cannot resume in the middle of an epoch of {len(loader)} iterations after {iterations}; use the '
                'batch size and number of processes of the first run'
            )
        if loader.batch_size is not None and hasattr(loader.sampler, 'skip'):
            loader.sampler.skip(iterations * loader.batch_size)
        else:  # torch refuses to set a loader's batch sampler, but its iterators look here
            loader.__dict__['batch_sampler'] = _Rest(loader.batch_sampler, iterations)


class _Rest:
    """Batch sampler that leaves out its first batches the first time."""

    def __init__(self, whole: Any, done: int) -> None:
        self._whole, self._done = whole, done

    def __iter__(self) -> Iterator[list[int]]:
        # when the first batch is asked for, not before: a loader with workers asks for two iterators and uses one
        done, self._done = self._done, 0
        yield from islice(self._whole, done, None)

    def __len__(self) -> int:
        return len(self._whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)
