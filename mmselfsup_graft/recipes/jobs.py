"""Running a recipe's stages as child processes, with one progress view.

Child processes have separate global state of mmengine, and independent stages can run in parallel.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmselfsup_graft.engine.train import prepare_distributed
from mmselfsup_graft.errors import ConfigError, DataError, GraftError
from mmselfsup_graft.utils.files import read_json
from mmselfsup_graft.utils.stop_signals import EXIT_PREEMPTED, Preempted, deferred, exit_reason, with_parent

from .recipe import Recipe, Stage, is_done, read_done
from .stage_run import run_stage

_POLL_SECONDS = 0.5
_PLAIN_SECONDS = 10.0
_STOP_SECONDS = 60.0
_CONTINUE = 'run the same command again to continue'
_CLEAR = '\r\x1b[K'  # clears the line


@dataclass
class _Job:
    stage: Stage
    process: subprocess.Popen
    log: Path
    log_begins: int  # the log of a resumed stage holds earlier lines too


def run_recipe(recipe: Recipe, work_dir: Path, jobs: int = 1, launcher: str = 'none') -> None:
    """Run all stages that are not complete yet.

    Under a launcher they run one after another in the launched processes, else as child processes.

    Args:
        recipe: The recipe.
        work_dir: Folder with a sub-folder per stage.
        jobs: Number of parallel child processes.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
    """
    if launcher == 'none':
        run_jobs(recipe, work_dir, jobs)
        return
    for stage in recipe.stages:
        run_stage(stage, work_dir, launcher)


def join_processes(recipe: Recipe, launcher: str) -> None:
    """Open the process group of a launched recipe, so that every process knows its rank."""
    cfg = Config(recipe.stages[0].cfg.to_dict())
    cfg.launcher = launcher
    prepare_distributed(cfg)


def run_jobs(recipe: Recipe, work_dir: Path, jobs: int) -> None:
    """Run all stages, up to ``jobs`` in parallel, each as soon as the stages it needs are complete.

    Args:
        recipe: The recipe.
        work_dir: Its work directory.
        jobs: Largest number of parallel stages, which share the cores.

    Raises:
        GraftError: When a stage fails; the others are stopped, finished work is kept.
        Preempted: When this process or a stage receives SIGTERM or SIGUSR1, after the stages have written
            their checkpoints.
    """
    if jobs < 1:
        raise ConfigError(f'--jobs must be at least 1, got {jobs}')
    waiting = [stage for stage in recipe.stages if not is_done(stage, work_dir)]
    running: list[_Job] = []
    view = ProgressView(recipe, work_dir)
    with deferred() as request, view, _stopping(running):
        while waiting or running:
            ready = [s for s in waiting if all(read_done(work_dir, need) for need in s.needs)]
            for stage in ready[: jobs - len(running)]:
                waiting.remove(stage)
                running.append(_start(recipe, stage, work_dir, jobs))
            time.sleep(_POLL_SECONDS)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                if job.process.returncode == EXIT_PREEMPTED:
                    raise Preempted(f'stage {job.stage.name} received a signal to stop; {_CONTINUE}')
                if job.process.returncode:
                    raise GraftError(_failure(job))
                view.note(job.stage.name)
            if request.number is not None:
                raise Preempted(f'stopped by {signal.Signals(request.number).name}; {_CONTINUE}')
            view.show([job.stage.name for job in running])


def _start(recipe: Recipe, stage: Stage, work_dir: Path, jobs: int) -> _Job:
    folder = work_dir / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = with_parent({**os.environ, 'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads})
    module = 'mmselfsup_graft.cli.recipe_stage'
    command = [sys.executable, '-m', module, str(recipe.path), '--work-dir', str(work_dir), '--only', stage.name]
    command += ['--options', json.dumps(recipe.options)] + (['--amp'] if recipe.amp else [])
    command += ['--data-root', recipe.data_root] if recipe.data_root else []
    command += ['--epochs', str(recipe.epochs)] if recipe.epochs else []
    command += [] if recipe.max_left_out is None else ['--max-left-out', str(recipe.max_left_out)]
    log = folder / 'train.log'
    with log.open('a') as file:
        log_begins = file.tell()
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    return _Job(stage, process, log, log_begins)


def _failure(job: _Job) -> str:
    text = job.log.read_bytes()[job.log_begins :].decode(errors='replace')
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith('error: ')]
    ended = exit_reason(job.process.returncode)
    reason = errors[-1].removeprefix('error: ') if errors else (lines[-1] if lines else ended)
    if job.process.returncode < 0:
        reason = ended
    return f'stage {job.stage.name} failed: {reason} (log: {job.log})'


@contextmanager
def _stopping(running: list[_Job]) -> Iterator[None]:
    """Stop running stages at the end of the block; each writes a checkpoint first."""
    try:
        yield
    finally:
        for job in running:
            job.process.send_signal(signal.SIGTERM)
        for job in running:
            try:
                job.process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                job.process.kill()


class ProgressView:
    """One line for the whole recipe, redrawn in place on a terminal and printed at intervals elsewhere."""

    def __init__(self, recipe: Recipe, work_dir: Path) -> None:
        self.recipe, self.work_dir = recipe, work_dir
        self.inplace = sys.stdout.isatty()
        self._started = time.time()
        self._last = 0.0
        self._noted: dict[str, str] = {}

    def show(self, running: list[str]) -> None:
        """Draw the current state."""
        if not self.inplace and time.time() - self._last < _PLAIN_SECONDS and running:
            return
        self._last = time.time()
        done = sum(read_done(self.work_dir, stage.name) is not None for stage in self.recipe.stages)
        parts = [f'{done}/{len(self.recipe.stages)} stages done, {time.time() - self._started:.0f} s']
        line = ' | '.join(parts + [self._describe(name) for name in running])
        if self.inplace:
            line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped line cannot be redrawn
        print(f'{_CLEAR}{line}' if self.inplace else line, end='' if self.inplace else '\n', flush=True)

    def note(self, name: str) -> None:
        """Print the notes of a finished stage, unless another stage had the same."""
        done = read_done(self.work_dir, name) or {}
        for text in done.get('notes', []):
            if self._noted.setdefault(text, name) != name:
                continue
            print(f'{_CLEAR if self.inplace else ""}note on {name}: {text}', flush=True)

    def __enter__(self) -> 'ProgressView':
        return self

    def __exit__(self, *_: object) -> None:
        """End the line."""
        if self.inplace:
            print(flush=True)

    def _describe(self, name: str) -> str:
        try:
            state = read_json(self.work_dir / name / 'progress.json')
            share = 100 * state['iter'] / state['max_iters']
            loss = f', loss {state["loss"]:.3f}' if state['loss'] is not None else ''
            return f'{name} {share:.0f} %, {state["seconds_left"]:.0f} s left{loss}'
        except (DataError, LookupError, TypeError, ValueError, ArithmeticError):  # missing, or cut off by a kill
            return f'{name} starting'
