"""Pictures of spectra hold amplitudes, highest frequencies and variances."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmselfsup_graft.analysis import LayerSpectrum
from mmselfsup_graft.analysis.spectrum.plot import draw_over_depth, draw_spectra, shaded_spans
from mmselfsup_graft.errors import DataError


def layer(name: str, kind: str, amplitude: list[float], variance: float = 1.0, side: int = 6) -> LayerSpectrum:
    return LayerSpectrum(name, kind, side, np.array(amplitude), variance)


VIT = [
    layer('stem', 'stem', [0, -1, -2], 0.1),
    layer('layers.0.attn', 'attention', [0, -2, -4], 0.2),
    layer('layers.0.ffn', 'mlp', [0, -1, -3], 5.0),
]
CNN = [
    layer('stem', 'stem', [0, -1, -2]),
    layer('layer1.0', 'pooling', [0, -2], side=3),
    layer('layer1.1', 'block', [0.0], float('nan'), side=1),
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    kept: list = []
    monkeypatch.setattr(plt, 'close', kept.append)
    return kept


def test_a_panel_per_model_and_a_line_per_layer(tmp_path: Path, figures: list) -> None:
    draw_spectra({'vit': VIT, 'cnn': CNN}, tmp_path / 'a.png')
    first, second = figures[0].axes[:2]
    assert (first.get_title(), second.get_title()) == ('vit', 'cnn')
    for axis, layers in ((first, VIT), (second, CNN)):
        for line, each in zip(axis.lines, layers):
            np.testing.assert_allclose(line.get_xdata(), each.frequencies)
            np.testing.assert_allclose(line.get_ydata(), each.amplitude)
    assert first.get_xlim() == (0, 1)
    assert (tmp_path / 'a.png').stat().st_size > 5000


def test_models_with_the_same_layers_share_a_panel(tmp_path: Path, figures: list) -> None:
    draw_over_depth({'vit': VIT, 'cnn': CNN, 'other vit': VIT[::1]}, tmp_path / 'b.png')
    upper, other, lower, _ = figures[0].axes
    names = [line.get_label() for line in upper.lines]
    assert names == ['vit', 'other vit']
    np.testing.assert_allclose(upper.lines[0].get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(upper.lines[0].get_ydata(), [-2, -4, -3])
    np.testing.assert_allclose(lower.lines[0].get_ydata(), [0.1, 0.2, 5.0])
    np.testing.assert_allclose(other.lines[0].get_ydata(), [-2, -2, np.nan])
    assert lower.get_yscale() == 'log'  # a factor of 50
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ['vit', 'other vit', 'attention']
    assert [text.get_text() for text in other.get_legend().get_texts()] == ['cnn', 'smaller map']


def test_what_is_shaded() -> None:
    assert list(shaded_spans(VIT)) == [('attention', 0.0, 0.5)]
    assert list(shaded_spans(CNN)) == [('pooling', 0.0, 0.5)]


@pytest.mark.parametrize('draw', [draw_spectra, draw_over_depth])
def test_nothing_to_draw(draw, tmp_path: Path) -> None:
    for nothing in ({}, {'a': []}):
        with pytest.raises(DataError, match='no spectrum'):
            draw(nothing, tmp_path / 'x.png')
    assert list(tmp_path.iterdir()) == []
