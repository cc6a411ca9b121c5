"""Commands of the documentation: bash reads them, files and options exist, overrides fit the config beside them."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from documented import PAGES, ROOT, Call, calls_of, command_of, parsed, shell_blocks, usage

from mmselfsup_graft.cli.graft import COMMANDS
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.recipes.recipe import load_recipe

BLOCKS = [
    pytest.param(page, block, id=f'{page.relative_to(ROOT)}-{number}')
    for page in PAGES
    for number, block in enumerate(shell_blocks(page))
]


def test_blocks_are_found():
    assert len(BLOCKS) > 50


@pytest.mark.parametrize(('page', 'block'), BLOCKS)
def test_shell_block(page, block, tmp_path):
    check_block(block, tmp_path, files_of(page))


def check_block(block: str, folder: Path, made: frozenset[str] = frozenset()) -> None:
    """Run a block and check the calls that it makes; ``made`` are files that its page tells to write."""
    for call in calls_of(block, folder):
        check_files(call, made)
        command = command_of(call)
        if command is not None:
            check_command(*command)
        elif call.program == 'script':
            check_script(*call.arguments)
        elif call.program == 'graft':
            assert call.arguments in (['--help'], ['--version']), call
        elif call.program == 'python' and call.arguments[0].startswith('benchmarks/'):
            importlib.import_module(Path(call.arguments[0]).stem).parse(call.arguments[1:])


def files_of(page: Path) -> frozenset[str]:
    """Files whose content is on the page."""
    return frozenset(re.findall(r'`([\w.-]+/[\w/.-]+\.py)`[^\n`]*:\n\n```python\n', page.read_text(encoding='utf-8')))


def check_files(call: Call, made: frozenset[str]) -> None:
    """Files of the checkout that a call names are there."""
    for argument in call.arguments:
        for name in re.findall(r'(?:^|=)((?:configs|tools|benchmarks|examples|tests|\.ci)/[^:\s]*)', argument):
            assert name in made or (ROOT / name).exists(), name


def check_command(module: str, arguments: list[str]) -> None:
    """The parser takes the arguments, and the config the overrides."""
    if '--help' in arguments:
        return
    options = parsed(module, arguments)
    path = options.get('config') or options.get('recipe')
    overrides = options.get('cfg_options')
    if overrides and isinstance(path, str) and (ROOT / path).is_file():
        assert isinstance(overrides, dict)
        if module == 'run_recipe':
            load_recipe(ROOT / path, options=overrides)
        else:
            load_config(ROOT / path, overrides)


def check_script(script: str, *arguments: str) -> None:
    """The options of a long script are in its usage text; those of the quick start may be those of recipes."""
    known = set(re.findall(r'--[\w-]+', usage(script) if script != '.ci/run' else ''))
    if script == 'tools/quickstart.sh':
        parser = importlib.import_module('mmselfsup_graft.cli.run_recipe').make_parser()
        known |= {name for action in parser._actions for name in action.option_strings}
    assert {each for each in arguments if each.startswith('--')} <= known


@pytest.mark.parametrize('block', ['python tools/train.py CONFIG --data-rot x', 'graft embed images', 'graft trian x'])
def test_a_wrong_command_is_found(block, tmp_path, capsys):
    with pytest.raises((SystemExit, AssertionError)):
        check_block(block, tmp_path)


def test_wrong_files_overrides_and_options_are_found(tmp_path):
    wrong = {
        'file': 'python tools/train.py configs/mae/none.py',
        'key': 'python tools/train.py CONFIG --cfg-options optim_wrapper.optimiser.lr=1',
        'option': 'bash tools/install.sh --test',
        'syntax': 'for x in a b; python tools/check_env.py',
    }
    for name, block in wrong.items():
        (tmp_path / name).mkdir()
        with pytest.raises((SystemExit, AssertionError, ConfigError)):
            check_block(block, tmp_path / name)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text(page):
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r'`([^`\n]+)`', text):
        command = re.match(r'graft ([a-z][\w-]*)', code)
        assert command is None or command[1] in COMMANDS, code
        for name in re.findall(r'(?<![\w./-])(?:tools|benchmarks|examples)/[\w/.-]+\.(?:py|sh)\b', code):
            assert (ROOT / name).is_file(), code


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks(page):
    """They are Python, and what they import from this package exists."""
    for block in re.findall(r'^```python\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmselfsup_graft'):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), block
