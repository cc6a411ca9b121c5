"""Stopping a run on a signal, so that it can be resumed."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmselfsup_graft.registry import HOOKS
from mmselfsup_graft.utils.stop_signals import Preempted, request

_EXCHANGE_SECONDS = 1.0
_STUCK_SECONDS = 5.0
_STUCK_ITERATIONS = 10


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint and stop at the end of the iteration in which SIGTERM or SIGUSR1 arrives.

    The checkpoint is ``iter_N.pth`` of the work directory. It is deleted when a later one is complete. While gradients
    are accumulated, the run stops at the end of a step of the optimizer. A validation that is interrupted is repeated
    by the resumed run.

    The ranks of a launch agree on the iteration about once per second, by a reduction on the CPU: nothing waits for a
    GPU. A rank whose iteration does not end after the signal, because another rank is gone, leaves without a
    checkpoint.

    :class:`GraftRunner` adds the hook to every training; ``default_hooks=dict(preemption=None)`` leaves it out.

    Raises:
        Preempted: When the checkpoint is written.
    """

    priority = 'LOWEST'  # after the schedules' step and the regular checkpoint of the same iteration

    def __init__(self) -> None:
        self._group: Any = None
        self._training = False
        self._validate_first = False
        self._former: Path | None = None
        self._left = 1
        self._since = (0.0, 1)
        self._longest = 0.0
        self._began: float | None = None
        self._val_iterations = 0

    # ---------------------------------------------------------------- begin and end
    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store which work the run that wrote the checkpoint left."""
        stopped = checkpoint.get('meta', {}).get('preempted')
        if stopped and getattr(runner, 'resumed_from', None) is not None:
            self._validate_first = stopped['in_validation']
            source = Path(runner.resumed_from)
            written = Path(runner.work_dir) / f'iter_{checkpoint["meta"].get("iter")}.pth'  # no other file is deleted
            self._former = source if source.resolve() == written.resolve() else None

    def before_train(self, runner: Runner) -> None:
        """Open a group on the CPU for the ranks' agreement; repeat the validation that was interrupted."""
        self._training = True
        self._since = (time.monotonic(), 1)
        if runner.distributed and torch.distributed.is_initialized():
            on_cpu = torch.distributed.get_backend() == 'gloo'
            self._group = torch.distributed.group.WORLD if on_cpu else torch.distributed.new_group(backend='gloo')
            threading.Thread(target=self._exit_if_stuck, daemon=True, name='stuck rank').start()
        if self._validate_first:
            self._validate_first = False
            if runner.val_loop is not None:
                runner.val_loop.run()

    def after_train(self, runner: Runner) -> None:
        """Delete the checkpoint of an earlier stop."""
        self._training = False
        self._delete_replaced(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Delete the checkpoint of an earlier stop."""
        self._delete_replaced(runner)

    # ---------------------------------------------------------------- where a run can stop
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Record the start time of the iteration."""
        self._began = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop if requested, unless gradients are being accumulated."""
        self._began = None
        number = self._asked()
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)  # a dict of wrappers has none
        if number and (runner.iter + 1) % steps == 0:
            self._stop(runner, number, runner.iter + 1, in_validation=False)
        self._delete_replaced(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Count the iterations that all ranks have."""
        self._val_iterations = len(runner.val_dataloader) if self._training else 0
        if self._training and self._group is not None:
            fewest = torch.tensor(self._val_iterations)
            torch.distributed.all_reduce(fewest, torch.distributed.ReduceOp.MIN, group=self._group)
            self._val_iterations = int(fewest)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop if requested; mmengine has counted the iteration and the epoch before it validates."""
        if batch_idx >= self._val_iterations:
            return
        number = self._asked()
        if number:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # restores the trained weights
            self._stop(runner, number, runner.iter, in_validation=True)

    # ---------------------------------------------------------------- agreement
    def _asked(self) -> int:
        """The signal that any rank received, the same on all ranks; 0 if none."""
        if self._group is None:
            return request.number or 0
        self._left -= 1
        if self._left > 0:
            return 0
        now, (before, iterations) = time.monotonic(), self._since
        values = torch.tensor([float(request.number or 0), (now - before) / iterations])
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=self._group)
        number, seconds = values.tolist()
        self._longest = max(self._longest, seconds)
        self._left = min(max(int(_EXCHANGE_SECONDS / max(seconds, 1e-6)), 1), 1000)
        self._since = (time.monotonic(), self._left)
        if number:  # the accumulated step may be incomplete: check every iteration from now on
            self._left = 1
        return int(number)

    def _exit_if_stuck(self) -> None:
        while self._training:
            time.sleep(0.5)
            number, began = request.number, self._began
            allowed = max(_STUCK_SECONDS, _STUCK_ITERATIONS * self._longest)
            if number is not None and began is not None and time.monotonic() - max(request.since, began) > allowed:
                request.leave(f'{signal.Signals(number).name}, without a checkpoint: another rank does not respond')

    # ---------------------------------------------------------------- the checkpoint
    def _stop(self, runner: Runner, number: int, iterations: int, in_validation: bool) -> None:
        self._training = False  # no time limit from here on
        path = Path(runner.work_dir) / f'iter_{iterations}.pth'
        if in_validation or not self._is_written(runner, path):
            epoch = runner.epoch
            meta = {'epoch': epoch, 'iter': iterations, 'preempted': {'in_validation': in_validation}}
            runner.save_checkpoint(runner.work_dir, path.name, meta=meta, by_epoch=False)
            if path == self._former:
                self._former = None
        if self._group is not None:
            torch.distributed.barrier(self._group)
        self._delete_former()
        raise Preempted(
            f'stopped by {signal.Signals(number).name} after iteration {iterations}; {path} is written. '
            'Run the same command again to continue (train.py and finetune.py: with --resume)',
            together=self._group is not None,
        )

    @staticmethod
    def _is_written(runner: Runner, path: Path) -> bool:
        """Whether the checkpoint hook has just written this file."""
        return path.is_file() and str(path) in (getattr(hook, 'last_ckpt', None) for hook in runner.hooks)

    def _delete_replaced(self, runner: Runner) -> None:
        """Delete the checkpoint of an earlier stop if the checkpoint hook has written one since."""
        if self._former is not None and any(getattr(hook, 'last_ckpt', None) for hook in runner.hooks):
            self._delete_former()

    def _delete_former(self) -> None:
        if self._former is not None and is_main_process():
            self._former.unlink(missing_ok=True)
        self._former = None
