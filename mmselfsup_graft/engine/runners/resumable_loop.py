"""Epoch loop that can go on in the middle of an epoch."""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import LOOPS


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's epoch loop, which after a resume goes on at the very iteration where the checkpoint was written.

    Together with :class:`SeededSampler`, whose order and augmentations are functions of (seed, epoch, index), and
    :class:`RandomStateHook`, a resumed run repeats an uninterrupted one bit for bit. Args are those of mmengine's loop.

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
                f'{self.dataloader.batch_size} per process; lower train_dataloader.batch_size'
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
        sampler = self.dataloader.sampler
        if iterations == 0:
            return
        if not hasattr(sampler, 'skip') or not 0 < iterations < len(self.dataloader):
            raise ConfigError(
                f'cannot resume in the middle of an epoch with {type(sampler).__name__} after {iterations} iterations; '
                'use sampler=dict(type="SeededSampler") and the batch size and number of processes of the first run'
            )
        sampler.skip(iterations * self.dataloader.batch_size)
