"""Curves are drawn from what the history hook wrote."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.analysis.figures import curves
from mmselfsup_graft.analysis.figures.curves import draw_loss_curves, draw_lr_over_depth
from mmselfsup_graft.errors import DataError


@pytest.fixture
def runs(tmp_path):
    found = {}
    for number, name in enumerate(('mim', 'lgp')):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{'iter': i, 'epoch': 0, 'loss': 2.0 + number - 0.1 * i, 'lr': [0.1]} for i in (9, 19, 29)]
        (folder / 'history.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        layers = [{'name': 'stem', 'lr': 0.0}, {'name': 'block 0', 'lr': 1e-4}, {'name': 'heads', 'lr': 1e-3}]
        (folder / 'param_groups.json').write_text(json.dumps({'layers': layers}))
        found[name] = folder
    return found


@pytest.fixture
def figures(monkeypatch):
    """Keep figures open to look at what was drawn."""
    kept = []
    monkeypatch.setattr(curves.plt, 'close', kept.append)
    yield kept
    monkeypatch.undo()
    for figure in kept:
        plt.close(figure)


def test_history_is_read_row_by_row(runs, tmp_path):
    rows = curves.read_history(runs['lgp'])
    assert [row['iter'] for row in rows] == [9, 19, 29]
    assert rows[1]['loss'] == pytest.approx(1.1)
    assert curves.read_history(tmp_path / 'nothing') == []


def test_loss_curves_hold_the_history(runs, figures, tmp_path):
    draw_loss_curves(runs, tmp_path / 'loss.png')
    (figure,) = figures
    assert [axis.get_title() for axis in figure.axes] == ['mim', 'lgp']
    for axis, number in zip(figure.axes, range(2)):
        (line,) = axis.lines
        np.testing.assert_allclose(line.get_xdata(), [10, 20, 30])
        np.testing.assert_allclose(line.get_ydata(), [1.1 + number, 0.1 + number, -0.9 + number])
    with Image.open(tmp_path / 'loss.png') as picture:
        assert len(set(picture.convert('L').getdata())) > 20


def test_a_single_point_is_marked(runs, figures, tmp_path):
    history = runs['mim'] / 'history.jsonl'
    history.write_text(history.read_text().splitlines(keepends=True)[0])
    draw_loss_curves({'MIM': runs['mim']}, tmp_path / 'loss.png')
    (figure,) = figures
    (line,) = figure.axes[0].lines
    assert (line.get_xdata().tolist(), line.get_marker()) == ([10], 'o')
    with Image.open(tmp_path / 'loss.png') as picture:
        blue = [pixel for pixel in picture.convert('RGB').getdata() if pixel[2] > pixel[0] + 60]
    assert len(blue) > 20  # the point, in the color of a first line


def test_rates_over_depth_hold_the_peaks(runs, figures, tmp_path):
    draw_lr_over_depth(runs, tmp_path / 'lr.png')
    (figure,) = figures
    (axis,) = figure.axes
    assert axis.get_yscale() == 'log'
    assert [line.get_label() for line in axis.lines] == ['mim', 'lgp']
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.0, 1e-4, 1e-3])
    np.testing.assert_allclose(axis.lines[1].get_ydata(), [0.0, 1e-4, 1e-3])
    places = [line.get_xdata() for line in axis.lines]
    np.testing.assert_allclose((places[0] + places[1]) / 2, [0, 1, 2])  # side by side
    assert [text.get_text() for text in axis.get_xticklabels()] == ['stem', 'block 0', 'heads']
    with Image.open(tmp_path / 'lr.png') as picture:
        assert len(set(picture.convert('L').getdata())) > 20


def test_a_run_without_history_leaves_an_empty_panel(tmp_path, figures):
    (tmp_path / 'young').mkdir()
    draw_loss_curves({'young': tmp_path / 'young'}, tmp_path / 'loss.png')
    assert [len(line.get_xdata()) for line in figures[0].axes[0].lines] == [0]
    assert (tmp_path / 'loss.png').stat().st_size > 1000


def test_heads_of_a_shallow_run_stand_with_the_others(tmp_path, figures):
    for name, blocks in (('shallow', 1), ('deep', 3)):
        (tmp_path / name).mkdir()
        names = ['stem', *(f'block {i}' for i in range(blocks)), 'heads']
        layers = [{'name': layer, 'lr': 1e-3} for layer in names]
        (tmp_path / name / 'param_groups.json').write_text(json.dumps({'layers': layers}))
    draw_lr_over_depth({name: tmp_path / name for name in ('shallow', 'deep')}, tmp_path / 'lr.png')
    (axis,) = figures[0].axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ['stem', 'block 0', 'block 1', 'block 2', 'heads']
    np.testing.assert_allclose(axis.lines[0].get_xdata(), [-0.06, 0.94, 3.94])


def test_layers_that_the_deepest_run_lacks_are_drawn(tmp_path, figures):
    named = {'long': ['stem', 'block 0', 'block 1', 'heads'], 'other': ['block 2', 'block 10', 'heads']}
    for name, layers in named.items():
        (tmp_path / name).mkdir()
        rates = [{'name': layer, 'lr': 1e-3} for layer in layers]
        (tmp_path / name / 'param_groups.json').write_text(json.dumps({'layers': rates}))
    draw_lr_over_depth({name: tmp_path / name for name in named}, tmp_path / 'lr.png')
    (axis,) = figures[0].axes
    shown = [text.get_text() for text in axis.get_xticklabels()]
    assert shown == ['stem', 'block 0', 'block 1', 'block 2', 'block 10', 'heads']
    np.testing.assert_allclose(axis.lines[1].get_xdata(), [3.06, 4.06, 5.06])


@pytest.mark.parametrize(
    'row', [{'iter': 'x', 'loss': 1}, {'iter': 1, 'loss': 'x'}, {'iter': 1, 'loss': 1e300}, {'loss': 1}, {'iter': True}]
)
def test_a_history_of_other_values_is_refused(row, runs):
    path = runs['mim'] / 'history.jsonl'
    with path.open('a') as file:
        file.write(json.dumps(row) + '\n')
    with pytest.raises(DataError, match=r"history\.jsonl' is damaged"):
        curves.read_history(runs['mim'])


def test_a_loss_that_is_not_finite_and_rows_without_loss_are_kept(runs):
    path = runs['mim'] / 'history.jsonl'
    with path.open('a') as file:
        file.write('{"iter": 39, "loss": NaN}\n{"iter": 39, "knn": 50.0}\n')
    assert [row['iter'] for row in curves.read_history(runs['mim'])] == [9, 19, 29, 39, 39]


@pytest.mark.parametrize(
    'layers',
    [
        *(None, 3, 'x', {'a': 1}, [1], [{'lr': 1}], [{'name': [1], 'lr': 1}], [{'name': '<b>', 'lr': 1}]),
        *([{'name': 'stem', 'lr': value}] for value in ('x', None, True, float('nan'), 10**400)),
    ],
)
def test_rates_of_other_kinds_are_refused(layers, runs):
    (runs['mim'] / 'param_groups.json').write_text(json.dumps({'layers': layers}))
    with pytest.raises(DataError, match=r"param_groups\.json' is damaged: layers must be a list of names and rates"):
        curves.peak_rates(runs['mim'])
