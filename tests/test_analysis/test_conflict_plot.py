"""The picture of a conflict profile holds its means and shares."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmselfsup_graft.analysis.conflict.plot import draw_conflict
from mmselfsup_graft.errors import DataError


def test_means_shares_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(plt, 'close', figures.append)
    cosines = {
        'embed': np.array([0.2, 0.4]),
        'blocks.0': np.array([0.1, -0.1, np.nan]),
        'blocks.1': np.array([-0.5, -0.3]),
        'frozen': np.array([np.nan]),
    }
    draw_conflict(cosines, tmp_path / 'conflict.png', 'title', graft_at='blocks.1')
    upper, lower = figures[0].axes
    (mean,) = [line for line in upper.lines if line.get_label() == 'mean']
    np.testing.assert_allclose(mean.get_ydata(), [0.3, 0.0, -0.4], atol=1e-12)
    assert [bar.get_height() for bar in lower.patches] == [0.0, 50.0, 100.0]
    assert [text.get_text() for text in lower.get_xticklabels()] == ['embed', 'blocks.0', 'blocks.1']
    assert [line.get_xdata()[0] for line in lower.lines] == [1.5]
    assert (tmp_path / 'conflict.png').stat().st_size > 5000


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no cosine to draw'):
        draw_conflict({'a': np.array([np.nan])}, tmp_path / 'conflict.png')
    assert list(tmp_path.iterdir()) == []
