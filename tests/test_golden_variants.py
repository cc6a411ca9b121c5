"""The golden tests take nothing for granted: they pass on a set with other names, order, sizes and optional entries."""

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from forked import Forked
from golden_sets import COMMITTED
from golden_variants import write_variant
from helpers import TESTS


def test_golden_tests_pass_on_a_set_that_differs_in_all_that_is_open(tmp_path: Path) -> None:
    write_variant(COMMITTED, tmp_path / 'set')
    report = tmp_path / 'report.xml'
    run = Forked(
        [sys.executable, '-m', 'pytest', TESTS / 'test_golden', '-n', '0', '-q', '-p', 'no:cacheprovider']
        + [f'--junitxml={report}', f'--basetemp={tmp_path / "runs"}'],
        cwd=TESTS.parent,
        env={**os.environ, 'GRAFT_GOLDEN': str(tmp_path / 'set')},
    )
    out, err = run.communicate(timeout=600)
    counts = ET.parse(report).getroot().find('testsuite').attrib  # type: ignore[union-attr]
    wrong = {key: int(counts[key]) for key in ('failures', 'errors', 'skipped') if int(counts[key])}
    assert not wrong, f'{wrong}\n{out[-8000:]}\n{err[-2000:]}'
    assert run.returncode == 0
    assert int(counts['tests']) > 250
