"""What a scenario is, and how rounds are run, counted and shown."""

import json
import os
import platform
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch


class Failure(Exception):
    """A check of a scenario that did not hold."""


class Scenario:
    """Something that goes wrong, and what must hold afterwards.

    Attributes:
        name: On the command line and in the table.
        share: How often it comes, relative to the others.
    """

    name = ''
    share = 1.0

    def prepare(self, folder: Path) -> None:
        """Make what all rounds need, once, in a folder of its own."""

    def round(self, folder: Path, draw: random.Random) -> str:
        """One round in an empty folder; returns what happened in a word or two, for the counts.

        Raises:
            Failure: If a check does not hold.
        """
        raise NotImplementedError


@dataclass
class Tally:
    """What came of the rounds of a scenario.

    Attributes:
        rounds: How many were run.
        seconds: CPU seconds of this process and its children.
        outcomes: What happened how often.
        failures: Number of the round and the reason, of each that failed.
    """

    rounds: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)


def cpu_seconds() -> float:
    """CPU seconds of this process, of its children and of those of the fork server that ended."""
    server = forkserver._forkserver._forkserver_pid
    theirs = 0.0
    if server is not None:
        fields = Path(f'/proc/{server}/stat').read_text().rpartition(')')[2].split()
        theirs = sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')  # utime, stime, cutime, cstime
    return sum(os.times()[:4]) + theirs


def run_rounds(
    scenarios: Sequence[Scenario],
    rounds: int,
    seed: int,
    folder: Path,
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Tally]:
    """Run rounds of the scenarios by turns, in proportion to their shares.

    Args:
        scenarios: Which; each is prepared before its first round.
        rounds: How many in all; at least one of each.
        seed: Decides everything that is drawn.
        folder: For the files; a round that failed leaves its own there.
        seconds: Begin no round after so many seconds.
        say: Takes lines of progress.
    """
    tallies = {each.name: Tally() for each in scenarios}
    began, last = time.monotonic(), 0.0
    total = max(rounds, len(scenarios))
    for done in range(total):
        passed = time.monotonic() - began
        if seconds is not None and passed > seconds:
            say(f'stopped after {passed:.0f} s: {done} of {total} rounds')
            break
        scenario = min(scenarios, key=lambda each: (tallies[each.name].rounds / each.share, each.name))
        try:
            _one_round(scenario, tallies[scenario.name], seed, folder / scenario.name)
        except KeyboardInterrupt:
            say(f'interrupted: {done} of {total} rounds')
            break
        passed = time.monotonic() - began
        if passed - last > 10 or done + 1 == total:
            last = passed
            failed = sum(len(each.failures) for each in tallies.values())
            left = passed / (done + 1) * (total - done - 1)
            say(f'{done + 1}/{total} rounds, {failed} failed, {passed:.0f} s, about {left:.0f} s left')
    return tallies


def _one_round(scenario: Scenario, tally: Tally, seed: int, folder: Path) -> None:
    before = cpu_seconds()
    if not tally.rounds:
        (folder / 'prepared').mkdir(parents=True, exist_ok=True)
        scenario.prepare(folder / 'prepared')
    number = tally.rounds
    place = folder / f'round_{number}'
    place.mkdir(parents=True)
    tally.rounds += 1
    try:
        outcome = scenario.round(place, random.Random(f'{seed} {scenario.name} {number}'))
        tally.outcomes[outcome] = tally.outcomes.get(outcome, 0) + 1
        shutil.rmtree(place)
    except Exception as error:
        reason = str(error) if isinstance(error, Failure) else traceback.format_exc()
        tally.failures.append({'round': number, 'reason': reason[-3000:], 'files': str(place)})
    tally.seconds += cpu_seconds() - before


def as_json(tallies: dict[str, Tally], seed: int, command: Sequence[str], wall: float) -> dict[str, Any]:
    """Everything about a run, for a file."""
    return {
        'command': list(command),
        'seed': seed,
        'wall_seconds': round(wall, 1),
        'machine': {'cores': os.cpu_count(), 'system': platform.platform(), 'processor': platform.machine()},
        'versions': {'python': sys.version.split()[0], 'torch': torch.__version__},
        'scenarios': {
            name: {
                'rounds': each.rounds,
                'failed': len(each.failures),
                'cpu_seconds': round(each.seconds, 1),
                'outcomes': dict(sorted(each.outcomes.items())),
                'failures': each.failures,
            }
            for name, each in tallies.items()
        },
    }


def as_table(result: dict[str, Any]) -> str:
    """A Markdown table of a result."""
    lines = ['| scenario | rounds | failed | CPU s per round | what happened |', '| --- | --- | --- | --- | --- |']
    for name, each in result['scenarios'].items():
        if each['rounds']:
            outcomes = ', '.join(f'{count} {outcome}' for outcome, count in each['outcomes'].items())
            cost = each['cpu_seconds'] / each['rounds']
            lines.append(f'| {name} | {each["rounds"]} | {each["failed"]} | {cost:.2f} | {outcomes} |')
    return '\n'.join(lines)


def write_json(result: dict[str, Any], path: Path) -> None:
    """Write a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')
