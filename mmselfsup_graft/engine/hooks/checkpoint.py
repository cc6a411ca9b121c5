"""Checkpoint hook whose files can be read without unpickling code."""

from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmselfsup_graft.checkpoints import traits_of
from mmselfsup_graft.engine.resuming.fingerprint import run_fingerprint, stored_entries, stored_scalers, stored_steps
from mmselfsup_graft.engine.resuming.stored_states import average_steps
from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class ReadableCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook with all its options, whose files can be read without unpickling code.

    Logged scalars are stored as plain numbers, so ``torch.load(weights_only=True)`` reads the file, together with what
    must be the same when the run is resumed (:func:`mmselfsup_graft.engine.resuming.fingerprint.run_fingerprint`).
    :class:`GraftRunner` puts it in the place of mmengine's.

    Args are those of :class:`mmengine.hooks.CheckpointHook`.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace history buffers by lists and numpy's scalars by Python's, leave functions of schedules out; add what
        a resumed run must have, and properties of the encoder that no tensor shows
        (:class:`mmselfsup_graft.checkpoints.Traits`).
        """
        checkpoint['meta']['run'] = run_fingerprint(runner)
        checkpoint['meta']['encoder'] = traits_of(unwrapped_model(runner)).as_meta()
        if 'optimizer' in checkpoint:
            checkpoint['meta']['optimizer_entries'] = stored_entries(checkpoint['optimizer'])
            checkpoint['meta']['optimizer_steps'] = stored_steps(checkpoint['optimizer'])
            checkpoint['meta']['loss_scalers'] = stored_scalers(checkpoint['optimizer'])
        updates = average_steps(checkpoint)  # the hook of an average adds it before, by its priority
        if updates is not None:
            checkpoint['meta']['average_steps'] = updates
        schedules = checkpoint.get('param_schedulers', [])
        for states in schedules.values() if isinstance(schedules, dict) else [schedules]:
            states[:] = [{key: value for key, value in each.items() if not callable(value)} for each in states]
        hub = checkpoint['message_hub']
        hub['log_scalars'] = {
            name: [column.tolist() for column in buffer.data] for name, buffer in hub['log_scalars'].items()
        }
        hub['runtime_info'] = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in hub['runtime_info'].items()
        }


@HOOKS.register_module()
class SafeCheckpointHook(ReadableCheckpointHook):
    """The checkpoint hook of pre-training and fine-tuning.

    In addition to its parent, the last checkpoint is never deleted before the new one is complete, which needs
    ``max_keep_ckpts`` of at least 2; and with ``save_best`` the checkpoint of an epoch is written after
    that epoch's validation, so that a resumed run has the scores of all completed epochs.

    Args are those of :class:`mmengine.hooks.CheckpointHook` that have to do with keeping a run. ``save_best`` is the
    name of a metric, more is better; of equal scores the first is best. The best weights are next to the others as
    ``best_METRIC_epoch_N.pth``; the one before is deleted when a checkpoint that no longer refers to it is complete.

    Raises:
        ConfigError: If ``max_keep_ckpts`` is 1, or ``save_best`` is not a metric of the validation or counts
            iterations.
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
        save_best: str | None = None,
    ) -> None:
        if save_best is not None and (not by_epoch or not isinstance(save_best, str)):
            raise ConfigError(f'SafeCheckpointHook: save_best={save_best!r} takes one metric and needs by_epoch=True')
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
        self.best_metric = save_best

    def before_train(self, runner: Runner) -> None:
        """Prepare as mmengine does; warn if checkpoints fall inside a step of accumulated gradients."""
        super().before_train(runner)
        every = self.interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        steps = runner.optim_wrapper._accumulative_counts
        if self.interval > 0 and every % steps:
            runner.logger.warning(
                f'checkpoints come every {every} iterations, gradients are accumulated over {steps}: a resumed run '
                'loses the gradients accumulated since the last step and differs slightly from an uninterrupted one'
            )

    # ---------------------------------------------------------------- the best epoch
    def after_train_epoch(self, runner: Runner) -> None:
        """Save, unless a validation follows whose result must be in the checkpoint."""
        if not self._follows_validation(runner, runner.epoch + 1):
            super().after_train_epoch(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep the weights if they are the best so far, then save if :meth:`after_train_epoch` did not."""
        done = runner.epoch
        if not self._follows_validation(runner, done):
            return
        self._keep_best(runner, metrics)
        due = self.interval > 0 and done >= self.save_begin and (done - self.save_begin) % self.interval == 0
        if due or (self.save_last and done == runner.max_epochs):
            runner.logger.info(f'Saving checkpoint at {done} epochs')
            self._save_checkpoint_with_step(runner, done, {'epoch': done, 'iter': runner.iter})
            self._remove_former_best(runner)

    def _follows_validation(self, runner: Runner, epochs: int) -> bool:
        """Whether the checkpoint after ``epochs`` epochs waits for a validation (always False outside of training)."""
        loop = runner._train_loop
        return self.best_metric is not None and hasattr(loop, 'validates_after') and loop.validates_after(epochs)

    def _keep_best(self, runner: Runner, metrics: dict[str, float]) -> None:
        if self.best_metric not in metrics:
            raise ConfigError(
                f'save_best={self.best_metric!r} is not a result of the validation, which gives {", ".join(metrics)}'
            )
        score, hub = float(metrics[self.best_metric]), runner.message_hub
        if not score > hub.runtime_info.get('best_score', float('-inf')):  # NaN is never the best
            return
        name = self.best_name(runner.epoch)
        for key, value in {'best_score': score, 'best_epoch': runner.epoch, 'best_file': name}.items():
            hub.update_info(key, value)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=False,
            save_param_scheduler=False,
            meta={'epoch': runner.epoch, 'iter': runner.iter},
            backend_args=self.backend_args,
        )
        runner.logger.info(f'best {self.best_metric} so far, {score:.4f} after epoch {runner.epoch}: saved as {name}')

    def best_name(self, epoch: int) -> str:
        """File name of the best weights if they are those of this epoch."""
        return f'{self._best_stem()}{epoch}.pth'

    def _best_stem(self) -> str:
        return f'best_{str(self.best_metric).replace("/", "_")}_epoch_'

    def _remove_former_best(self, runner: Runner) -> None:
        current = runner.message_hub.runtime_info.get('best_file')
        if is_main_process():
            for path in Path(self.out_dir).glob(f'{self._best_stem()}*.pth'):
                if path.name != current:
                    path.unlink()
