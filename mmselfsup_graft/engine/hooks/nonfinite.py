"""Hook that stops a run that has gone wrong."""

from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.errors import GraftError
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop at the first loss that is not finite and keep the batch that caused it.

    Args:
        interval: Iterations between two looks; each look waits for the device.

    Raises:
        GraftError: At a non-finite loss; the batch lies in ``nonfinite_batch.pth`` of the work directory.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._last: tuple[Any, dict | None] = (None, None)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at the loss now and then."""
        self._last = (data_batch, outputs)
        if self.every_n_train_iters(runner, self.interval):
            self._look(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the loss before every checkpoint, so that none is written by a run gone wrong."""
        self._look(runner)

    def _look(self, runner: Runner) -> None:
        data_batch, outputs = self._last
        if outputs is None:
            return
        loss = torch.as_tensor(outputs['loss'])
        if not torch.isfinite(loss).all():
            path = Path(runner.work_dir) / 'nonfinite_batch.pth'
            save_atomically({'inputs': data_batch['inputs'], 'iter': runner.iter}, path)
            raise GraftError(
                f'the loss became {float(loss)} at iteration {runner.iter}; the batch is kept in {path}. Lower the '
                'learning rate, clip gradients, or train in float32 (optim_wrapper.dtype=float32)'
            )
