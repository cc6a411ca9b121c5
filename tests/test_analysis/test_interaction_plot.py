"""The picture of interaction strengths holds them."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmselfsup_graft.analysis import InteractionStrength
from mmselfsup_graft.analysis.interaction.plot import draw_interaction
from mmselfsup_graft.errors import DataError


def test_one_line_per_model_from_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list = []
    monkeypatch.setattr(plt, 'close', figures.append)
    shares = np.array([0.0, 0.5, 0.99])
    strengths = {
        'a': InteractionStrength(np.array([1.5, 0.5, 1.0]), np.array([0.1, 0.2, 0.1]), np.ones(3)),
        'b': InteractionStrength(np.array([1.1, 0.9, 1.0]), np.full(3, np.nan), np.ones(3)),
    }
    draw_interaction(strengths, dict.fromkeys(strengths, shares), tmp_path / 'j.png', 'title')
    (axis,) = figures[0].axes
    lines = {line.get_label(): line for line in axis.lines}
    for name, found in strengths.items():
        np.testing.assert_array_equal(lines[name].get_xdata(), shares)
        np.testing.assert_array_equal(lines[name].get_ydata(), found.strength)
    assert len(axis.collections) == 1  # a single image has no band
    assert axis.get_ylim()[0] == 0
    assert axis.get_title() == 'title'
    assert (tmp_path / 'j.png').stat().st_size > 5000


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no interaction strength'):
        draw_interaction({}, {}, tmp_path / 'j.png')
    assert list(tmp_path.iterdir()) == []
