"""The shell blocks of the documentation, run by bash with programs that write down how they are called."""

import importlib
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from mmselfsup_graft.cli.graft import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md', 'examples/**/*.md')
    for path in sorted(ROOT.glob(pattern))
]
#: Placeholders that a program needs a value for; the others are taken as they stand.
VALUES = {'GPUS': '8', 'TARGET': 'timm', 'TOOL.py': 'feature_spectrum.py'}
#: Instead of CONFIG, so that the overrides beside it are checked.
CONFIG = 'configs/mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px.py'
SCORING = 'configs/benchmarks/linear/linear_vit-mini-p4_1xb256-coslr-30e_fashion-mnist-28px.py'
#: Scripts that install or run for long: checked by their usage texts.
LONG = ('tools/install.sh', 'tools/quickstart.sh', 'tools/run_tests.sh', '.ci/run', 'benchmarks/gpu.sh')
_RECORD = '#!/bin/sh\nprintf "%s\\0" "$(basename -- "$0")" "$@" "" >> "$CALLS"\n'
_PROGRAMS = (
    'python', 'graft', 'git', 'pip', 'mkdocs', 'docker', 'pre-commit', 'jupyter', 'sleep', 'scontrol', 'script'
)  # fmt: skip
# what srun runs is written down as itself; the long scripts are `script`
_PRELUDE = f"""
bash() {{ case "$1" in {'|'.join(LONG)}) script "$@" ;; *) command bash "$@" ;; esac; }}
kill() {{ :; }}
"""


class Call(NamedTuple):
    """One call of a program: its name and arguments."""

    program: str
    arguments: list[str]


def shell_blocks(page: Path) -> list[str]:
    """The ```bash blocks of a page."""
    return re.findall(r'^```bash\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)


def runnable(block: str) -> str:
    """A block without optional parts, with values for placeholders."""
    block = re.sub(r' \[(?!\[)[^\]\n]*\](?!\])', '', block)
    block = re.sub(r'^\.\.\. ', f'python tools/train.py {CONFIG} ', block, flags=re.MULTILINE)
    block = re.sub(r'<this repository>', 'repository', block).replace('&& cd mmselfsup_graft', '')
    block = re.sub(r'(tools/test\.py|--protocols.*) CONFIG\b', rf'\1 {SCORING}', block)
    block = re.sub(r'\bCONFIG\b', CONFIG, block)
    for name, value in VALUES.items():
        block = re.sub(rf'(?<![\w.]){re.escape(name)}(?![\w=])', value, block)
    return block


def _programs(folder: Path) -> Path:
    """A folder with the programs that only write down their calls, and links to what scripts look for."""
    programs = folder / 'bin'
    programs.mkdir()
    for name in _PROGRAMS:
        (programs / name).write_text(_RECORD)
    (programs / 'srun').write_text('#!/bin/sh\nwhile [ "$(basename -- "$1")" != python ]; do shift; done\nexec "$@"\n')
    for each in programs.iterdir():
        each.chmod(0o755)
    (folder / '.venv' / 'bin').mkdir(parents=True)
    (folder / '.venv' / 'bin' / 'activate').touch()
    for name in ('tools', 'configs', 'benchmarks', '.ci', 'tests'):
        (folder / name).symlink_to(ROOT / name)
    return programs


def calls_of(block: str, folder: Path) -> list[Call]:
    """Run a block in an empty folder and return the calls it makes.

    Raises:
        AssertionError: If bash cannot read or run it.
    """
    programs, record = _programs(folder), folder / 'calls'
    environment = {
        'PATH': f'{programs}:/usr/bin:/bin',
        'CALLS': str(record),
        'GRAFT_PYTHON': str(programs / 'python'),
        'GRAFT_VENV': str(folder / 'no_environment'),
        'HOME': str(folder),
    }
    command = ['bash', '-euo', 'pipefail', '-c', _PRELUDE + runnable(block)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f'{block}\n{done.stderr}'
    assert not done.stderr.strip(), f'{block}\n{done.stderr}'
    if not record.exists():
        return []
    groups = record.read_text().split('\0\0')[:-1]
    return [Call(program, arguments) for program, *arguments in (group.split('\0') for group in groups)]


def command_of(call: Call) -> tuple[str, list[str]] | None:
    """Module below ``mmselfsup_graft.cli`` and arguments of a call of ours; None for other programs."""
    arguments = list(call.arguments)
    if call.program == 'graft' and arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]].module, arguments[1:]
    while arguments and arguments[0] in ('-u', '-m'):
        arguments.pop(0)
    if call.program == 'python' and arguments[:1] == ['mmselfsup_graft.cli.torchrun']:
        arguments = arguments[next(n for n, each in enumerate(arguments) if each.endswith('.py')) :]
    match = re.search(r'(?:^|/)tools/([\w/]+)\.py$', arguments[0]) if call.program == 'python' and arguments else None
    return (match[1].replace('/', '.'), arguments[1:]) if match else None


def parsed(module: str, arguments: list[str]) -> dict[str, object]:
    """What the real parser of a command makes of arguments; SystemExit if it refuses them."""
    return vars(importlib.import_module(f'mmselfsup_graft.cli.{module}').make_parser().parse_args(arguments))


def usage(script: str) -> str:
    """The usage text of a shell script."""
    command = ['bash', str(ROOT / script), '--help']
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
