"""History of a run for curves, and its progress for users."""

import math
import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.engine.device_scalars import read_scalars
from mmselfsup_graft.engine.run_parts import images_left_out, unwrapped_model
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.registry import HOOKS
from mmselfsup_graft.utils.files import append_rows, parse_row, read_json, read_lines, whole_file, write_json

_LEFT_OUT = 0.25  # share of the images above which a dropped last batch is noted
_FEW_STEPS = 300


@HOOKS.register_module()
class HistoryHook(Hook):
    """Write a run's history and progress into its work directory.

    ``history.jsonl``: losses and learning rate over iterations; ``progress.json``: where the run is, with time left,
    the last loss of the history, the seconds trained so far (also over resumes), those of the CPU (of all threads of
    the first process, without its loader workers; left out if an earlier part of a resumed run did not measure them)
    and notes for users;
    ``param_groups.json``: peak learning rate over depth. Losses are read from the device for the lines of the history
    and at no other iteration. If steps were left out because of a loss or gradient that is not finite, a line holds
    their number (``skipped_steps``), and it leaves out losses that are not finite.

    Args:
        interval: Iterations between two lines of the history.
        seconds: Least time between two writes of the progress file.
    """

    priority = 'BELOW_NORMAL'  # before the schedule's step and before the checkpoint, which must not be ahead of it

    def __init__(self, interval: int = 10, seconds: float = 1.0) -> None:
        self.interval = interval
        self.seconds = seconds
        self._written = 0.0
        self._started = (0.0, 0)
        self._earlier = 0.0
        self._earlier_cpu: float | None = 0.0
        self._cpu_started = 0.0
        self._loss: float | None = None

    def before_train(self, runner: Runner) -> None:
        """Truncate a history to the checkpoint that the run is resumed from."""
        self._started, self._cpu_started = (time.time(), runner.iter), time.process_time()
        if not is_main_process():
            return
        path = self._file(runner, 'history.jsonl')
        if path.is_file():
            with whole_file(path) as file:
                file.writelines(line for line in read_lines(path) if _iteration(line) < runner.iter)
        progress = self._file(runner, 'progress.json')
        if runner.iter and progress.is_file():
            before = read_json(progress, keys=('seconds',))
            self._earlier = _seconds(before, 'seconds', progress)
            if _measured(before.get('cpu_seconds')):
                self._earlier_cpu = _seconds(before, 'cpu_seconds', progress)
            else:
                self._earlier_cpu = None
        write_json(self._file(runner, 'param_groups.json'), _lr_over_depth(runner))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Append to the history and refresh the progress file."""
        if not is_main_process():
            return
        last = runner.iter + 1 == runner.max_iters
        due = time.time() - self._written > self.seconds
        if last or (runner.iter + 1) % self.interval == 0:
            self._append(runner, outputs)
        if last or due:
            self._refresh(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the number of unreadable images that were skipped."""
        dataset = runner.train_dataloader.dataset
        skipped = getattr(dataset, 'num_corrupt', 0)
        if skipped:
            names = ', '.join(dataset.corrupt_files()[:5])
            runner.logger.warning(f'{skipped} unreadable images were skipped so far: {names}')

    def _append(self, runner: Runner, outputs: dict | None) -> None:
        losses = {k: v for k, v in read_scalars(outputs or {}).items() if math.isfinite(v)}  # NaN is not JSON
        self._loss = losses.get('loss', self._loss)
        row = {'iter': runner.iter, 'epoch': runner.epoch, **losses, 'lr': runner.optim_wrapper.get_lr()['lr']}
        skipped = _skipped_steps(runner)
        if skipped:
            row['skipped_steps'] = len(skipped)
        append_rows(self._file(runner, 'history.jsonl'), [row])

    def _refresh(self, runner: Runner) -> None:
        started, first = self._started
        done, now = runner.iter + 1, time.time()
        left = (now - started) / (done - first) * (runner.max_iters - done)
        row = {
            'iter': done,
            'max_iters': runner.max_iters,
            'loss': self._loss,
            'seconds': self._earlier + now - started,
            'seconds_left': left,
            'notes': _notes(runner),
        }
        if self._earlier_cpu is not None:
            row['cpu_seconds'] = self._earlier_cpu + time.process_time() - self._cpu_started
        write_json(self._file(runner, 'progress.json'), row)
        self._written = now

    @staticmethod
    def _file(runner: Runner, name: str) -> Path:
        return Path(runner.work_dir) / name


def _measured(seconds: Any) -> bool:
    """Whether the seconds of the CPU are known: older versions wrote NaN for those that are not."""
    return seconds is not None and not (isinstance(seconds, float) and math.isnan(seconds))


def _seconds(progress: dict[str, Any], key: str, path: Path) -> float:
    """A time of a progress file.

    Raises:
        DataError: If it is not a finite number from 0.
    """
    value = progress[key]
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise DataError(
            f'{str(path)!r} is damaged ({key} is {str(value)[:40]!r}, expected a number from 0); remove it and run the '
            'command again'
        )
    return value


def _skipped_steps(runner: Runner) -> list[int]:
    """Iterations whose step :class:`NonFiniteLossHook` left out."""
    hub = getattr(runner, 'message_hub', None)
    return [] if hub is None else list(hub.runtime_info.get('skipped_steps', []))


def _notes(runner: Runner) -> list[str]:
    """Notes about a run that its losses do not show."""
    loader = runner.train_dataloader
    images, notes = len(loader.dataset), []
    left_out = images_left_out(runner)
    if left_out > _LEFT_OUT * images:
        notes.append(
            f'{left_out} of {images} images are left out of every epoch, because the last batch is incomplete; '
            'lower train_dataloader.batch_size'
        )
    if runner.max_iters < _FEW_STEPS:
        notes.append(f'only {runner.max_iters} optimizer steps, too few to learn much; train for more epochs')
    ignored = getattr(loader.dataset, 'left_out', None)
    if ignored is not None and ignored.unexpected:
        notes.append(f'training data: {ignored.text()}')
    unreadable = getattr(loader.dataset, 'num_corrupt', 0)
    if unreadable:
        notes.append(f'{unreadable} of {images} images could not be read and were skipped; the log lists the first')
    skipped = _skipped_steps(runner)
    if skipped:
        notes.append(
            f'{len(skipped)} steps were left out because their loss or gradient was not finite; iterations '
            f'{", ".join(map(str, skipped[:5]))}'
        )
    return notes


def _lr_over_depth(runner: Runner) -> dict:
    """Peak learning rate of each layer; parameters without gradient have rate 0."""
    model = unwrapped_model(runner)
    depth = depth_of(model.backbone)
    rates = {
        id(p): group.get('initial_lr', group['lr'])
        for group in runner.optim_wrapper.param_groups
        for p in group['params']
    }
    layers = [{'name': 'stem', 'lr': 0.0}]
    layers += [{'name': f'block {i}', 'lr': 0.0} for i in range(depth.num_blocks)] + [{'name': 'heads', 'lr': 0.0}]
    for name, parameter in model.named_parameters():
        inside = name.startswith('backbone.')
        layer = depth.layer_id(name.removeprefix('backbone.')) if inside else depth.num_blocks + 1
        layers[layer]['lr'] = max(layers[layer]['lr'], rates.get(id(parameter), 0.0))
    return {'layers': layers}


def _iteration(line: bytes) -> float:
    """Iteration of a history line; a truncated line counts as infinite."""
    iteration = (parse_row(line) or {}).get('iter') if line.endswith(b'\n') else None
    return iteration if isinstance(iteration, int | float) else math.inf
