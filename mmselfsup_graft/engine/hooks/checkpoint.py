"""Checkpoint hook whose files can be read without unpickling code."""

import numpy as np
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook with three differences.

    Logged scalars are stored as plain numbers, so ``torch.load(weights_only=True)`` reads the file; the last checkpoint
    is never deleted before the new one is complete, which needs ``max_keep_ckpts`` of at least 2; and a run is not
    resumed with another batch size or number of processes.

    Args are those of :class:`mmengine.hooks.CheckpointHook` that have to do with keeping a run.

    Raises:
        ConfigError: If ``max_keep_ckpts`` is 1, or when resuming with another batch.
    """

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        out_dir: str | None = None,
        max_keep_ckpts: int = 2,
        save_last: bool = True,
        save_begin: int = 0,
        backend_args: dict | None = None,
    ) -> None:
        if max_keep_ckpts == 1:
            raise ConfigError(
                'max_keep_ckpts=1 would delete the only checkpoint before the next one is written; use 2 (or -1: all)'
            )
        super().__init__(
            interval=interval,
            by_epoch=by_epoch,
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            out_dir=out_dir,
            max_keep_ckpts=max_keep_ckpts,
            save_last=save_last,
            save_begin=save_begin,
            backend_args=backend_args,
        )

    def before_train(self, runner: Runner) -> None:
        """Prepare as mmengine does; say so if checkpoints will fall inside a step of accumulated gradients."""
        super().before_train(runner)
        every = self.interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        steps = runner.optim_wrapper._accumulative_counts
        if self.interval > 0 and every % steps:
            runner.logger.warning(
                f'checkpoints come every {every} iterations, gradients are accumulated over {steps}: a resumed run '
                'will lose the gradients gathered since the last step and differ a little from an uninterrupted one'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace history buffers by lists and numpy's scalars by Python's; note the batch behind an iteration."""
        checkpoint['meta']['batch'] = _batch(runner)
        hub = checkpoint['message_hub']
        hub['log_scalars'] = {
            name: [column.tolist() for column in buffer.data] for name, buffer in hub['log_scalars'].items()
        }
        hub['runtime_info'] = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in hub['runtime_info'].items()
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Inverse of :meth:`before_save_checkpoint`; refuse to resume with another batch."""
        before, now = checkpoint.get('meta', {}).get('batch'), _batch(runner)
        if runner._resume and before and now and before != now:
            raise ConfigError(
                f'cannot resume with {now["size"]} images on {now["processes"]} processes a run that had '
                f'{before["size"]} on {before["processes"]}: iterations would not mean the same; use the same numbers'
            )
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, columns in scalars.items():
            if isinstance(columns, list):
                scalars[name] = HistoryBuffer(*columns)


def _batch(runner: Runner) -> dict[str, int] | None:
    """Batch size per process and number of processes; None outside of training."""
    if runner._train_loop is None or isinstance(runner._train_loop, dict):
        return None
    return {'size': runner.train_dataloader.batch_size, 'processes': runner.world_size}
