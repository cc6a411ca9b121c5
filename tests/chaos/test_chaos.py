"""A short round of everything that ``python tests/chaos`` does for as long as wanted."""

from pathlib import Path

import pytest

from .all import SCENARIOS
from .files import KINDS
from .scenario import as_json, as_table, run_rounds


@pytest.mark.slow
def test_a_short_round(tmp_path: Path) -> None:
    tallies = run_rounds(SCENARIOS, 2 * len(SCENARIOS), seed=1, folder=tmp_path, seconds=75, say=lambda _: None)
    failures = {name: each.failures for name, each in tallies.items() if each.failures}
    assert not failures, failures
    table = as_table(as_json(tallies, 1, ['pytest'], 0.0))
    assert tallies
    assert all(f'| {name} |' in table for name, each in tallies.items() if each.rounds)
    assert len(KINDS) == 15
