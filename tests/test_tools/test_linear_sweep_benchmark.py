"""The timing of the linear sweep runs, and writes what it prints."""

import json

import pytest
from test_tools.tiny_runs import call_tool


def test_the_ratio_of_medians_is_written(tmp_path):
    sizes = ['--images', 16, '--batch-size', 8, '--width', 12, '--depth', 1, '--img-size', 8, '--repeats', 3]
    done = call_tool('../benchmarks/linear_sweep', *sizes, '--out', tmp_path / 'new' / 'ratio.json')
    assert done.code == 0, done.err
    result = json.loads((tmp_path / 'new' / 'ratio.json').read_text())
    for name in ('cached features', 'shared forward passes'):
        times = result[name]['seconds']
        assert [len(times[key]) for key in ('all', 'one')] == [3, 3]
        assert min(times['all'] + times['one']) > 0
        assert result[name]['ratio'] == pytest.approx(sorted(times['all'])[1] / sorted(times['one'])[1])
        assert f'{result[name]["ratio"]:.2f}' in done.out
        assert result[name]['heads'] == 70
    assert result['settings']['width'] == 12
