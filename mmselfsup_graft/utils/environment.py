"""Report of what is installed, what this machine supports, and the commands for missing parts.

Works in an interpreter that has none of the requirements: only torch and mmcv are imported, and only if they are there.
"""

import os
import platform
import re
import shlex
import sys
import warnings
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from mmselfsup_graft.ops import VARIABLE
from mmselfsup_graft.ops.finder import failure_of_compiled, operators_in_use
from mmselfsup_graft.version import __version__

Status = Literal['ok', 'optional', 'bad']

PYTHON_RANGE = ((3, 10), (3, 13))
#: Its headers are C++20; mmcv's operators are built as C++17.
FIRST_TORCH_WITHOUT_COMPILED_OPS = '2.14'
IMPORT_NAMES = {
    'onedl-mmengine': 'mmengine',
    'onedl-mmcv': 'mmcv',
    'onedl-mmpretrain': 'mmpretrain',
    'onedl-mmdetection': 'mmdet',
    'onedl-mmsegmentation': 'mmseg',
}


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: Checked item.
        status: ``ok``; ``optional``: missing, but pre-training runs without it; ``bad``: pre-training cannot run.
        found: Version or capability.
        note: Consequence, as text.
        fix: Command that fixes it, empty if there is nothing to do; with ``ok`` an optional improvement.
    """

    name: str
    status: Status
    found: str
    note: str = ''
    fix: str = ''


def check_environment() -> list[Row]:
    """Check the interpreter, every requirement, the operators of mmcv and the devices; nothing is changed."""
    rows = [_python_row()]
    rows += [_package_row(name, spec) for name, spec in _requirements('base')]
    rows += [_mmcv_ops_row()]
    rows += [_package_row(name, spec, use='the fast data path only') for name, spec in _requirements('fast')]
    rows += [_package_row(name, spec, use='tables and maps of features only') for name, spec in _requirements('look')]
    rows += [_package_row(name, spec, use='export to ONNX only') for name, spec in _requirements('export')]
    rows += [_package_row(name, spec, use='the Hugging Face hub only') for name, spec in _requirements('hub')]
    rows += [_package_row(name, spec, use='detection or segmentation only') for name, spec in _requirements('transfer')]
    return rows + _device_rows()


def versions() -> dict[str, str]:
    """Versions of Python, the computing libraries and this package: part of every result."""
    names = ['torch', 'torchvision', 'numpy', 'onedl-mmengine', 'onedl-mmpretrain', 'scikit-learn']
    found = {IMPORT_NAMES.get(name, name): _version_of(name) or 'unknown' for name in names}
    return {'python': platform.python_version(), **found, 'mmselfsup_graft': __version__}


def can_pretrain(rows: list[Row]) -> bool:
    """Whether everything that pre-training needs is installed."""
    return all(row.status != 'bad' for row in rows)


def format_report(rows: list[Row]) -> str:
    """Return the table, the commands for missing parts, and the conclusion, as text for a terminal."""
    marks = {'ok': 'ok', 'optional': '-', 'bad': 'BAD'}
    cells = [(marks[row.status], row.name, row.found, row.note) for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)]
    lines = ['  '.join([*(c.ljust(w) for c, w in zip(cell, widths)), cell[3]]).rstrip() for cell in cells]
    for status, title in (('bad', 'To run pre-training:'), ('optional', 'Only if you need it:')):
        fixes = [f'  {row.name}: {row.fix}' for row in rows if _group(row) == status and row.fix]
        lines += ['', title, *fixes] if fixes else []
    verdict = (
        'Pre-training can run.' if can_pretrain(rows) else 'Pre-training cannot run yet; see the lines marked BAD.'
    )
    missing = [row.name for row in rows if row.status != 'ok' and row.name in ('mmdet', 'mmseg')]
    more = f'Detection and segmentation cannot ({", ".join(missing)} missing): bash tools/install.sh --transfer'
    return '\n'.join([*lines, '', verdict, more if missing else 'Detection and segmentation can run.'])


def _group(row: Row) -> Status:
    """Section for the command of a row; a working item can have one for an improvement."""
    return 'bad' if row.status == 'bad' else 'optional'


def _python_row() -> Row:
    low, high = PYTHON_RANGE
    supported = low <= sys.version_info[:2] < high
    fix = '' if supported else 'GRAFT_PYTHON=/path/to/python3.11 bash tools/install.sh'
    return Row('python', 'ok' if supported else 'bad', platform.python_version(), 'needs 3.10 to 3.12', fix)


def _requirements(group: str) -> list[tuple[str, str]]:
    """Return (distribution, version range) pairs: from the checkout if this is one, else as installed."""
    path = Path(__file__).resolve().parents[2] / 'requirements' / f'{group}.txt'
    if path.is_file():
        lines = [line for line in path.read_text(encoding='utf-8').splitlines() if not line.lstrip().startswith('#')]
    else:
        lines = [line for line in metadata.requires('mmselfsup-graft') or [] if _group_of(line) == group]
    found = (re.match(r'([A-Za-z0-9._-]+)\s*([^;]*)', line) for line in lines)
    return [(match[1], match[2].replace(' ', '').strip('()')) for match in found if match]


def _group_of(requirement: str) -> str:
    extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", requirement)
    return extra[1] if extra else 'base'


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _satisfies(version: str, spec: str) -> bool:
    """Compare a version with a range made of ``>=``, ``<`` and ``==``, the only forms our requirements use."""
    for clause in filter(None, spec.split(',')):
        operator, bound = re.match(r'(>=|<|==)(.+)', clause.strip()).groups()  # type: ignore[union-attr]
        left, right = _release(version), _release(bound)
        if not {'>=': left >= right, '<': left < right, '==': left == right}[operator]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r'\d+(\.\d+)*', version)
    parts = [int(part) for part in numbers[0].split('.')] if numbers else []
    return tuple((parts + [0, 0, 0, 0])[:4])


def _pip(arguments: str) -> str:
    return f'{sys.executable} -m pip {arguments}'


def _package_row(distribution: str, spec: str, use: str = '') -> Row:
    name = IMPORT_NAMES.get(distribution, distribution)
    missing: Status = 'optional' if use else 'bad'
    use = use or 'needed'
    fix = _pip(f"install '{distribution}{spec}'")
    version = _version_of(distribution)
    original = _version_of(name) if name != distribution else None
    if original is not None:  # the discontinued distribution of the same import name overwrites the maintained one
        note = f'of the discontinued distribution {name}; {distribution} continues it under the same import name'
        reinstall = f'{_pip(f"uninstall -y {name}")} && {_pip("install --force-reinstall --no-deps")}'
        return Row(name, missing, original, note, f"{reinstall} '{distribution}{spec}'")
    if version is None:
        return Row(name, missing, 'missing', f'{use}: {distribution}{spec}', fix)
    if not _satisfies(version, spec):
        return Row(name, missing, version, f'incompatible, {use}: {distribution}{spec}', fix)
    return Row(name, 'ok', version)


def _mmcv_ops_row() -> Row:
    use = 'detection and segmentation only'
    version = _version_of('torchvision')
    if version is None or util.find_spec('mmcv') is None:
        return Row('mmcv ops', 'optional', 'missing', f'{use}: needs mmcv and torchvision')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what it warns of is in the row
            in_use, failure = operators_in_use(), failure_of_compiled()
    except (ImportError, OSError) as error:  # mmcv or torch itself
        return Row('mmcv ops', 'optional', 'fails', f'{use}: {_first_line(error)}')
    if in_use == 'compiled':
        return Row('mmcv ops', 'ok', 'compiled', f'without bfloat16; {VARIABLE}=torchvision uses those of torchvision')
    found = f'torchvision {version}'
    if failure:
        return Row('mmcv ops', 'ok', found, f'the compiled ones do not work: {failure}', _command_to_compile())
    if os.environ.get(VARIABLE) == 'torchvision':
        return Row('mmcv ops', 'ok', found, f'set by {VARIABLE}')
    note = 'covers the operators of detection and segmentation; compiled ones are optional'
    return Row('mmcv ops', 'ok', found, note, _command_to_compile())


def _command_to_compile() -> str:
    new_torch = not _satisfies(_version_of('torch') or '0', f'<{FIRST_TORCH_WITHOUT_COMPILED_OPS}')
    tools = Path(__file__).resolve().parents[2] / 'tools'
    if (tools / 'install.sh').is_file():
        if new_torch:
            return (
                f'{_venv_setting(tools.parent)}bash {shlex.quote(str(tools / "install.sh"))} --transfer --compiled-ops'
            )
        return f'bash {shlex.quote(str(tools / "build_mmcv_ops.sh"))} {shlex.quote(sys.executable)}'
    older = [_pip(f"install 'torch<{FIRST_TORCH_WITHOUT_COMPILED_OPS}' torchvision")] if new_torch else []
    # pip's cache does not distinguish the pure build from the compiled one, so the wheel goes through a folder of its
    # own.
    steps = [
        *older,
        _pip("install 'setuptools>=80,<82' wheel ninja psutil"),
        _pip(f'wheel --no-cache-dir --no-build-isolation --no-deps -w mmcv_wheel onedl-mmcv=={_mmcv_version()}'),
        _pip('install --force-reinstall --no-deps --no-index mmcv_wheel/onedl_mmcv-*.whl'),
    ]
    return f'export MMCV_WITH_OPS=1; {" && ".join(steps)}'


def _venv_setting(checkout: Path) -> str:
    """The setting that makes tools/install.sh use this interpreter's virtual environment, where that is another one."""
    is_default = Path(sys.prefix).resolve() == (checkout / '.venv').resolve()
    return '' if is_default or sys.prefix == sys.base_prefix else f'GRAFT_VENV={shlex.quote(sys.prefix)} '


def _mmcv_version() -> str:
    """Return the installed version, or the oldest one that our requirements allow."""
    oldest = dict(_requirements('base')).get('onedl-mmcv', '>=2.3.6').split(',')
    bounds = [clause[2:] for clause in oldest if clause.startswith(('>=', '=='))]
    return _version_of('onedl-mmcv') or bounds[0]


def _device_rows() -> list[Row]:
    """Report processors and accelerators; a torch that cannot be imported blocks pre-training."""
    cores = f'{os.cpu_count()} cores'
    if util.find_spec('torch') is None:
        return [Row('cpu', 'ok', cores)]
    try:
        import torch
    except (ImportError, OSError) as error:  # e.g. a torch without the libraries it was built with
        fix = _pip('install --force-reinstall torch torchvision')
        return [Row('torch import', 'bad', 'fails', _first_line(error), fix)]
    rows = [Row('cpu', 'ok', f'{cores}, {torch.backends.cpu.get_cpu_capability()}', _cpu_bf16_note())]
    if not torch.cuda.is_available():
        return [*rows, Row('gpu', 'ok', 'none', f'torch is built for {torch.version.cuda or "cpu"}; the CPU is used')]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        bf16 = 'bf16' if device.major >= 8 else 'no native bf16: use fp16'
        found = f'{device.name}, {device.total_memory / 2**30:.0f} GiB'
        rows.append(Row(f'gpu {index}', 'ok', found, f'{bf16}; CUDA {torch.version.cuda}'))
    return rows


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _cpu_bf16_note() -> str:
    info = Path('/proc/cpuinfo')
    flags = info.read_text(encoding='utf-8', errors='replace') if info.is_file() else ''
    native = any(flag in flags for flag in ('avx512_bf16', 'amx_bf16'))
    return 'native bf16' if native else 'bf16 without hardware support (slow): train in float32'
