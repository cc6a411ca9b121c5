"""Logs of runs: what is read from their files, the table and the page."""

import json

import pytest
from test_tools.tiny_runs import tiny_config, write_config

import mmselfsup_graft as graft
from mmselfsup_graft.analysis.training_log.measure import find_runs, read_run
from mmselfsup_graft.analysis.training_log.report import runs_table, write_logs
from mmselfsup_graft.cli.analysis_tools import analyze_logs
from mmselfsup_graft.errors import DataError


def make_run(folder, losses, **progress):
    folder.mkdir(parents=True)
    rows = [{'iter': number, 'epoch': 0, 'loss': loss, 'lr': [1e-3, 1e-2]} for number, loss in enumerate(losses)]
    (folder / 'history.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in [*rows, {'iter': 1, 'knn': 60.0}]))
    if progress:
        (folder / 'progress.json').write_text(json.dumps(progress))


def test_a_real_run(tmp_path, capsys):
    config = write_config(tmp_path / 'tiny.py', tiny_config('mim', images=16, epochs=2))
    runner = graft.train(config, work_dir=tmp_path / 'run')
    run = read_run('run', tmp_path / 'run')
    assert (run.iteration, run.last) == (4, 4)
    history = [json.loads(line) for line in (tmp_path / 'run' / 'history.jsonl').read_text().splitlines()]
    assert run.curves['loss'] == ([1, 2, 3, 4], [row['loss'] for row in history])
    assert run.curves['lr'][1][-1] == max(history[-1]['lr'])
    assert run.per_second == pytest.approx(4 / run.seconds)
    assert runs_table([run])[1][5] == 'finished'
    capsys.readouterr()
    analyze_logs.main([str(tmp_path / 'run'), '--out', str(tmp_path / 'page.html')])
    assert '4 / 4' in capsys.readouterr().out
    text = (tmp_path / 'page.html').read_text()
    assert text.count('<polyline') == len(run.curves)
    assert runner.iter == 4


def test_several_runs(tmp_path):
    make_run(tmp_path / 'recipe' / 'mim', [3.0, 2.0, float('nan')], iter=3, max_iters=12, seconds=6, seconds_left=18)
    make_run(tmp_path / 'recipe' / '<cl>', [5.0, 4.0], iter=2, max_iters=2, seconds=4, seconds_left=0, notes=['a & b'])
    make_run(tmp_path / 'other' / 'mim', [1.0])
    found = find_runs([tmp_path / 'recipe', tmp_path / 'other' / 'mim'])
    assert list(found) == ['recipe/<cl>', 'recipe/mim', 'other/mim']
    runs = [read_run(name, folder) for name, folder in found.items()]
    rows = runs_table(runs)[1:]
    assert rows[0][1:7] == ('2 / 2', '100 %', '0.5', '4 s', 'finished', '4')
    assert rows[1][1:7] == ('3 / 12', '25 %', '0.5', '6 s', '18 s', '2')
    assert rows[2][1:6] == ('2', '-', '-', '-', '-')
    assert runs[1].curves['loss'] == ([1, 2], [3.0, 2.0])
    assert runs[1].curves['lr'] == ([1, 2, 3], [1e-2] * 3)
    write_logs(runs, tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text()
    assert text.count('<polyline') == 3 * 3  # loss, rate and score of each
    assert '<cl>' not in text
    assert 'a &amp; b' in text


def test_wrong_input(tmp_path):
    with pytest.raises(DataError, match='is not a folder'):
        find_runs([tmp_path / 'none'])
    with pytest.raises(DataError, match=r'holds no history.jsonl'):
        find_runs([tmp_path])
    make_run(tmp_path / 'run', [1.0], iter='x', max_iters=2, seconds=1)
    with pytest.raises(DataError, match='iter is'):
        read_run('run', tmp_path / 'run')
