"""How the tools end: what they print for which error, and with which code."""

import argparse
import os
import re
import signal

import pytest
import torch

from mmselfsup_graft.cli.options import add_cfg_options, add_launch_options
from mmselfsup_graft.cli.running import describe, run_tool
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.utils.stop_signals import request


def end(main, capsys) -> tuple[int, str]:
    """Exit code and stderr of a tool."""
    with pytest.raises(SystemExit) as leaving:
        run_tool(main, [])
    return leaving.value.code, capsys.readouterr().err


def raising(error: BaseException):
    def main(argv):
        raise error

    return main


def chained(outer: Exception, inner: Exception, explicit: bool) -> Exception:
    try:
        try:
            raise inner
        except Exception as cause:
            if explicit:
                raise outer from cause
            raise outer  # noqa: B904
    except Exception as error:
        return error


def test_success_is_zero_and_a_number_is_passed_on(capsys):
    assert end(lambda argv: None, capsys) == (0, '')
    assert end(lambda argv: 3, capsys) == (3, '')


def test_our_errors_are_one_line(capsys):
    code, text = end(raising(ConfigError('two\nlines   and   gaps')), capsys)
    assert (code, text) == (1, 'error: two lines and gaps\n')


def test_foreign_errors_say_their_type_and_where_to_look(capsys):
    code, text = end(raising(ValueError('odd\nthing')), capsys)
    assert (code, text) == (1, 'error: ValueError: odd thing (set GRAFT_TRACEBACK=1 to see where)\n')
    assert len(end(raising(ValueError('x' * 5000)), capsys)[1]) < 500
    code, text = end(raising(FileNotFoundError(2, 'No such file or directory', 'a.png')), capsys)
    assert (code, text) == (1, "error: [Errno 2] No such file or directory: 'a.png'\n")


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr(request, 'advice', lambda: 'do this')
    code, text = end(raising(KeyboardInterrupt()), capsys)
    assert code == 130
    assert text == '\ninterrupted; do this\n'


def test_the_origin_is_shown_if_asked_for(monkeypatch):
    monkeypatch.setenv('GRAFT_TRACEBACK', '1')
    with pytest.raises(ConfigError, match='shown'):
        run_tool(raising(ConfigError('shown')), [])


@pytest.mark.parametrize('explicit', [True, False])
def test_our_message_is_found_below_other_errors(explicit):
    """mmengine's registries wrap what a class raises."""
    inner = CheckpointError('the file is damaged')
    assert describe(chained(TypeError('class `X` in x.py: ...'), inner, explicit)) == 'the file is damaged'
    outer = ConfigError('ours on top')
    assert describe(chained(outer, ValueError('below'), explicit)) == 'ours on top'


def test_usual_options():
    parser = argparse.ArgumentParser()
    add_launch_options(parser)
    add_cfg_options(parser)
    args = parser.parse_args([])
    assert (args.launcher, args.local_rank, args.cfg_options) == ('none', 0, {})
    args = parser.parse_args(['--launcher', 'pytorch', '--local-rank', '2', '--cfg-options', 'a.b=1', 'c=[1,2]'])
    assert (args.launcher, args.local_rank, args.cfg_options) == ('pytorch', 2, {'a.b': 1, 'c': [1, 2]})
    assert parser.parse_args(['--local_rank', '1']).local_rank == 1
    args = parser.parse_args(['--cfg-options', 'root=my data/ü', 'file="a, b"', 'none=None', 'some=1, 2'])
    assert args.cfg_options == {'root': 'my data/ü', 'file': 'a, b', 'none': None, 'some': [1, 2]}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'no-value'])
    with pytest.raises(SystemExit):
        parser.parse_args(['--launcher', 'other'])


@pytest.mark.parametrize(
    'value', ["custom_hooks=[dict(type='ReconstructionHook')]", "model.head={'type': 'A2MIMHead'}"]
)
def test_dicts_on_the_command_line_are_refused(value, capsys):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    with pytest.raises(SystemExit) as leaving:
        parser.parse_args(['--cfg-options', value])
    assert leaving.value.code == 2
    assert 'takes no dict' in capsys.readouterr().err


# ---------------------------------------------------------------- workers of data loaders
class Broken(torch.utils.data.Dataset):
    """Fails in its worker with a long message, or kills the worker."""

    def __init__(self, kill: bool) -> None:
        self.kill = kill

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError('the cause, ' + 'whole ' * 200 + 'and\nto its end')


@pytest.mark.parametrize('wrapped', [False, True])
def test_the_death_of_a_worker_is_said_plainly(wrapped):
    """Its signal is turned into an error wherever the process is, in mmengine's formatting of a config for example."""
    with pytest.raises(RuntimeError) as died:
        list(torch.utils.data.DataLoader(Broken(kill=True), num_workers=1))
    error = chained(SyntaxError('Failed to format the config file'), died.value, True) if wrapped else died.value
    text = describe(error)
    assert re.fullmatch(r'a data-loading worker \(PID \d+\) was killed by SIGKILL \(out of memory\?\)', text)


def test_the_cause_of_a_workers_error_comes_first_and_whole():
    with pytest.raises(ValueError, match='the cause') as caught:
        list(torch.utils.data.DataLoader(Broken(kill=False), num_workers=1))
    text = describe(caught.value)
    assert text.startswith('ValueError: the cause, whole whole')
    assert 'and to its end (in a data-loading worker' in text
