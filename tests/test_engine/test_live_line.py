"""The live line: what it counts, that other output does not run into it, and that the file has mmengine's lines."""

import io
import logging
import re
from types import SimpleNamespace

import pytest
import torch
from test_tools.tiny_runs import call_tool, fresh_name, tiny_config, write_config

from mmselfsup_graft.engine import console
from mmselfsup_graft.engine.hooks import live_line
from mmselfsup_graft.engine.hooks.live_line import LiveLineHook, duration


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def screen(text: str) -> list[str]:
    """What a terminal shows: a line is erased up to its last carriage return."""
    return [line.rpartition('\r\x1b[K')[2] for line in text.split('\n')]


def logger_to(stream: io.StringIO) -> logging.Logger:
    logger = logging.Logger('live')
    logger.addHandler(logging.StreamHandler(stream))
    return logger


def test_records_do_not_run_into_the_line():
    terminal = Terminal()
    logger = logger_to(terminal)
    with console.live_line(logger) as line:
        line.show('epoch 1')
        line.show('epoch 2')
        logger.warning('a warning')
        line.show('epoch 3')
    logger.warning('the end')
    assert screen(terminal.getvalue()) == ['a warning', 'epoch 3', 'the end', '']


def test_a_file_gets_whole_lines():
    file = io.StringIO()
    with console.live_line(logger_to(file)) as line:
        line.show('epoch 1')
        line.show('epoch 2')
    assert file.getvalue() == 'epoch 1\nepoch 2\n'


def test_rates_are_those_of_the_clock(monkeypatch):
    """Four steps of 8 images on two processes: 1 s for the batch, 3 s for the step each."""
    clock = iter([0.0, 0.0, *(second for step in range(4) for second in (4.0 * step + 1, 4.0 * step + 4))])
    monkeypatch.setattr(live_line, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(live_line, 'memory_used', lambda: 2_500_000_000)
    file = io.StringIO()
    loader = SimpleNamespace(batch_size=8)
    runner = SimpleNamespace(
        logger=logger_to(file), iter=0, max_iters=10, world_size=2, train_dataloader=loader, train_loop=None
    )
    hook = LiveLineHook(file_seconds=15.0)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    for step in range(4):
        runner.iter = step
        hook.before_train_iter(runner, step)
        hook.after_train_iter(runner, step, None, {'loss': torch.tensor(0.5)})
    assert file.getvalue() == ('step 4/10 | loss 0.5000 | 24 s left | 4.0 images/s | 25% waiting for data | 2.5 GB\n')


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(3.4, '3 s'), (89, '89 s'), (95, '2 min'), (3600, '60 min'), (7500, '2 h 05 min'), (180000, '2 d 2 h')],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_run_shows_one_line_and_keeps_the_rest_in_its_file(tmp_path):
    config = write_config(tmp_path / 'mim.py', tiny_config('mim', images=16, batch=8, epochs=3))
    done = call_tool('train', config, '--work-dir', tmp_path / 'run', *fresh_name())
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if ' | loss ' in line]
    assert len(lines) == 1
    assert lines[0].startswith('epoch 3/3, step 2/2 | loss ')
    assert 'Epoch(train)' not in done.out
    (log,) = (tmp_path / 'run').rglob('*.log')
    assert len(re.findall(r'Epoch\(train\)', log.read_text())) == 3
