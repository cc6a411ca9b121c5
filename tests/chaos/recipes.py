"""Recipes of which a stage or the parent is killed, and which are run again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from test_recipes.test_running import weights, write_recipe
from test_tools.tiny_runs import assert_same_run

from .children import ROOT, Measure, measured, run, start, tool
from .scenario import Failure, Scenario

STAGES = ('mim', 'cl', 'lgp')


class Recipe(Scenario):
    """The cascade of three stages; killed, it must continue to the same checkpoints, histories and table."""

    name = 'recipe, killed'
    share = 0.2
    measure: Measure

    def prepare(self, folder: Path) -> None:
        """Run it once, undisturbed."""
        self.recipe, self.whole = write_recipe(folder), folder / 'whole'
        given = (recipe_main, self.recipe, self.whole)
        self.measure = measured(*given, log=folder / 'whole.log', folder=self.whole)

    def round(self, folder: Path, draw: random.Random) -> str:
        """Kill the parent at a drawn moment, or a stage; run it again."""
        work = folder / 'run'
        if draw.random() < 0.5:
            outcome = 'the parent'
            kill = self.measure.kill(draw)
            run(recipe_main, self.recipe, work, log=folder / 'killed.log', kill=kill, folder=work)
        else:
            outcome = self._kill_a_stage(folder, work, draw)
        _wait_for_no_stage(work)
        ended = run(recipe_main, self.recipe, work, log=folder / 'again.log')
        if ended.code != 0:
            raise Failure(f'{outcome}: run again it ended with {ended.code}: {ended.text[-2000:]}')
        for name in STAGES:
            assert_same_run(weights(work, name), weights(self.whole, name))
            if (work / name / 'history.jsonl').read_text() != (self.whole / name / 'history.jsonl').read_text():
                raise Failure(f'{outcome}: the history of {name} differs')
        return outcome

    def _kill_a_stage(self, folder: Path, work: Path, draw: random.Random) -> str:
        parent = start(recipe_main, self.recipe, work, log=folder / 'killed.log')
        number, delay, seen = draw.randint(1, len(STAGES)), draw.uniform(0, 1), set[int]()
        while parent.is_alive() and len(seen) < number:
            time.sleep(0.02)
            seen.update(_stages_of(work))
        time.sleep(delay)
        stages = _stages_of(work)
        for pid in stages:
            os.kill(pid, signal.SIGKILL)
        parent.join(120)
        if parent.exitcode is None:
            parent.kill()
            raise Failure('the parent still runs 120 s after the death of its stage')
        text = (folder / 'killed.log').read_text()
        if stages and parent.exitcode != 0 and 'error: ' not in text:
            raise Failure(f'the parent ended with {parent.exitcode}: {text[-2000:]}')
        return 'a stage' if parent.exitcode else 'too late'


def recipe_main(recipe: Path, work: Path) -> None:
    """``run_recipe``, whose stages are forks of its process: they start in no time."""
    from mmselfsup_graft.recipes import jobs as recipe_jobs

    sys.path.insert(0, str(recipe.parent))  # for the module that the configs import
    recipe_jobs.subprocess = SimpleNamespace(**{**vars(subprocess), 'Popen': _Fork})
    tool('run_recipe', recipe, '--work-dir', work)


class _Fork:
    """What the parent of a recipe needs of :class:`subprocess.Popen`, for a command ``python -m MODULE ...``."""

    def __init__(self, command: list[str], stdout: Any, stderr: Any, stdin: Any, env: dict[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command, stdout.fileno(), env)

    @staticmethod
    def _become(command: list[str], output: int, env: dict[str, str]) -> None:
        import runpy

        code = 1
        try:
            for target in (1, 2):
                os.dup2(output, target)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.environ.update(env)
            sys.argv = command[2:]
            sys.path.insert(0, str(ROOT))
            runpy.run_module(command[2], run_name='__main__', alter_sys=True)
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        end = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired('stage', timeout or 0)
            time.sleep(0.02)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _stages_of(work: Path) -> list[int]:
    """Processes that write the log of a stage in this folder."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            if os.readlink(folder / 'fd' / '1').startswith(f'{work}/'):
                found.append(int(folder.name))
        except OSError:
            continue  # ended meanwhile
    return found


def _wait_for_no_stage(work: Path) -> None:
    """Stages end with their parent."""
    end = time.monotonic() + 30
    while _stages_of(work):
        if time.monotonic() > end:
            raise Failure('a stage outlives its parent by 30 s')
        time.sleep(0.05)
