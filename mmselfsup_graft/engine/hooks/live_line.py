"""One line about a run while it trains."""

import resource
import sys
import time
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmselfsup_graft.engine.console import LiveLine, live_line
from mmselfsup_graft.engine.device_scalars import read_scalars
from mmselfsup_graft.engine.run_parts import batch_size_of
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class LiveLineHook(Hook):
    """Show loss, images per second, share of the time spent waiting for data, memory and time left.

    A terminal has one line, which is rewritten; a file gets a new line now and then. The log file has mmengine's own
    lines. The loss is read from the device only for a line. :class:`GraftRunner` has the hook in every run.

    Args:
        seconds: Least time between two states of the line on a terminal.
        file_seconds: Least time between two lines in a file or pipe.
    """

    priority = 'LOWEST'  # the time of other hooks is part of an iteration

    def __init__(self, seconds: float = 0.5, file_seconds: float = 30.0) -> None:
        self.seconds, self.file_seconds = seconds, file_seconds
        self._stack = ExitStack()
        self._line: LiveLine | None = None
        self._began = self._ended = self._window = 0.0
        self._first = self._steps = 0
        self._waited = 0.0

    def before_train(self, runner: Runner) -> None:
        """Begin the line, below the summary."""
        if is_main_process():
            self._line = self._stack.enter_context(live_line(runner.logger))
        self._began = self._ended = self._window = time.monotonic()
        self._first, self._steps, self._waited = runner.iter, 0, 0.0

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave validation and checkpoints out of the time for data."""
        now = time.monotonic()
        self._window += now - self._ended
        self._ended = now

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Count the time since the last iteration: it went into the batch."""
        self._waited += time.monotonic() - self._ended

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Show the state if the line is due."""
        self._steps += 1
        self._ended = time.monotonic()
        if self._line is None:
            return
        last = runner.iter + 1 == runner.max_iters
        due = self._ended - self._window > (self.seconds if self._line.rewrites else self.file_seconds)
        if last or due:
            self._line.show(self._text(runner, batch_idx, outputs or {}))
            self._window, self._steps, self._waited = self._ended, 0, 0.0

    def end_of_training(self, runner: Runner) -> None:
        """Leave the last state on the console; called after an error, too."""
        self._stack.close()

    def _text(self, runner: Runner, batch_idx: int, outputs: dict) -> str:
        passed = max(self._ended - self._window, 1e-9)
        done = runner.iter + 1
        left = (self._ended - self._began) / (done - self._first) * (runner.max_iters - done)
        size = batch_size_of(runner.train_dataloader)
        loss = read_scalars({'loss': outputs['loss']})['loss'] if 'loss' in outputs else None
        parts = [
            _place(runner, batch_idx),
            '' if loss is None else f'loss {loss:.4f}',
            f'{duration(left)} left' if done < runner.max_iters else f'took {duration(self._ended - self._began)}',
            f'{_rate(size * runner.world_size * self._steps / passed)} images/s' if size else '',
            f'{min(self._waited / passed, 1.0):.0%} waiting for data',
            f'{memory_used() / 1e9:.1f} GB',
        ]
        return ' | '.join(part for part in parts if part)


def _rate(images: float) -> str:
    """Images per second, with a decimal where there are few."""
    return f'{images:,.0f}' if images >= 10 else f'{images:.1f}'


def _place(runner: Runner, batch_idx: int) -> str:
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return f'epoch {runner.epoch + 1}/{loop.max_epochs}, step {batch_idx + 1}/{len(loop.dataloader)}'
    return f'step {runner.iter + 1:,}/{runner.max_iters:,}'


def memory_used() -> int:
    """Most bytes used so far: of the GPU by torch, without a GPU by this process, its loader workers not included."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == 'darwin' else 1024 * most


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min`` or ``2 d 4 h``."""
    whole = round(seconds)
    if whole < 90:
        return f'{whole} s'
    minutes = round(seconds / 60)
    if minutes < 90:
        return f'{minutes} min'
    hours, rest = divmod(minutes, 60)
    return f'{hours} h {rest:02} min' if hours < 48 else f'{hours // 24} d {hours % 24} h'
