"""The console command, and that each script of ``tools/`` is one of its commands."""

import re
from pathlib import Path

import pytest

from mmselfsup_graft.cli import graft
from mmselfsup_graft.errors import ConfigError

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize('name', graft.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as left:
        graft.main([name, '--help'])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: graft {name}')


def test_scripts_and_commands_are_the_same():
    called = {
        re.search(r'from mmselfsup_graft\.cli\.([\w.]+) import main', script.read_text())[1]
        for script in TOOLS.rglob('*.py')
        if 'benchmarks' not in script.parts
    }
    assert called == {command.module for command in graft.COMMANDS.values()} - {'completion'}


def test_overview_names_all(capsys):
    assert graft.main([]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith('  ')]
    assert listed == list(graft.COMMANDS)


def test_unknown_command():
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        graft.main(['trian'])


def test_completion_knows_commands_and_options(capsys):
    graft.main(['completion', 'bash'])
    script = capsys.readouterr().out
    assert set(graft.COMMANDS) <= set(re.findall(r'[\w-]+', script))
    assert '--auto-scale-lr' in script
