"""Progress lines."""

from mmselfsup_graft.utils import progress
from mmselfsup_graft.utils.progress import Progress


def test_lines_come_now_and_then_with_the_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    shown = Progress('extracting features', total=10, seconds=5.0)
    for number in range(4):
        now[0] += 2.0
        shown.step(note=f', note {number}')
    assert capsys.readouterr().out == 'extracting features: 30 %, 14 s left, note 2\n'


def test_short_work_is_silent(capsys):
    shown = Progress('scoring', total=2)
    shown.step()
    shown.step()
    assert capsys.readouterr().out == ''
