"""Whose module ``mmcv._ext`` is: the compiled one where there is one, in whichever order the packages are imported."""

import importlib
import importlib.machinery
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmselfsup_graft.errors import MissingOperatorError
from mmselfsup_graft.ops import install
from mmselfsup_graft.ops.finder import VARIABLE, Finder

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import importlib.util, sys
for name in {order}:
    importlib.import_module(name)
spec = importlib.util.find_spec('mmcv._ext')
from mmselfsup_graft.ops.finder import failure_of_compiled, operators_in_use
assert 'torch' not in sys.modules
print(spec.origin if spec.origin == 'mmselfsup_graft.ops' else 'file', operators_in_use())
if 'torch' in sys.modules:  # a compiled one was tried
    extension = importlib.import_module('mmcv._ext')
    assert ('COMPILED' in vars(extension)) is (operators_in_use() == 'compiled')
    assert ('softnms' in vars(extension)) is (operators_in_use() == 'torchvision')
print(failure_of_compiled())
"""
WORKING = 'import torch; COMPILED = True; nms = lambda *boxes, **options: torch.tensor([0])'
MISREADING = """
COMPILED = True
def nms(*boxes, **options):
    raise RuntimeError('nms_impl: implementation for device cuda:0 not found')
"""


def imported(folder: Path, order: tuple[str, ...], wish: str, extension: str | None) -> subprocess.CompletedProcess:
    """Run :data:`SCRIPT` beside a package ``mmcv`` that has nothing but, where given, this ``_ext``."""
    (folder / 'mmcv').mkdir(exist_ok=True)
    (folder / 'mmcv' / '__init__.py').touch()
    if extension is not None:
        (folder / 'mmcv' / '_ext.py').write_text(extension)
    environment = {**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}', VARIABLE: wish}
    command = [sys.executable, '-c', SCRIPT.format(order=order)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize('order', [('mmcv', 'mmselfsup_graft'), ('mmselfsup_graft', 'mmcv')])
@pytest.mark.parametrize(
    ('compiled', 'wish', 'expected'),
    [
        (False, '', 'mmselfsup_graft.ops torchvision'),
        (False, 'compiled', 'mmselfsup_graft.ops torchvision'),
        (True, '', 'file compiled'),
        (True, 'torchvision', 'mmselfsup_graft.ops torchvision'),
    ],
)
def test_stands_in_where_there_is_none(tmp_path, order, compiled, wish, expected):
    done = imported(tmp_path, order, wish, WORKING if compiled else None)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected
    assert 'do not work' not in done.stderr


@pytest.mark.parametrize('wish', ['', 'compiled'])
@pytest.mark.parametrize('broken', ['source', 'library', 'misreading'])
def test_stands_in_for_one_that_does_not_work(tmp_path, wish, broken):
    source = {'source': "raise ImportError('undefined symbol: _ZN3c10')", 'misreading': MISREADING}.get(broken)
    if broken == 'library':
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        (tmp_path / 'mmcv').mkdir()
        (tmp_path / 'mmcv' / f'_ext{suffix}').write_bytes(b'not a library')
    done = imported(tmp_path, ('mmcv', 'mmselfsup_graft'), wish, source)
    assert done.returncode == 0, done.stderr
    first, reason = done.stdout.strip().splitlines()
    assert first == 'file torchvision'  # found, not loaded
    assert reason
    assert done.stderr.count('UserWarning') == 1
    assert f'do not work: {reason}' in done.stderr
    assert 'operators of torchvision are used' in done.stderr


def test_is_installed_once():
    install()
    install()
    assert sum(isinstance(finder, Finder) for finder in sys.meta_path) == 1
    assert importlib.util.find_spec('mmcv._no_such_module') is None


@pytest.mark.skipif(os.environ[VARIABLE] != 'torchvision', reason='the compiled operators are in use')
def test_an_operator_that_is_not_served_says_so():
    from mmcv.ops import carafe_naive, get_compiler_version

    assert 'torchvision' in get_compiler_version()
    with pytest.raises(MissingOperatorError) as error:
        carafe_naive(torch.zeros(1, 4, 2, 2), torch.zeros(1, 9, 4, 4), 3, 1, 2)
    assert 'carafe_naive_forward' in str(error.value)
    assert 'tools/install.sh --transfer --compiled-ops' in str(error.value)
