"""Whose module ``mmcv._ext`` is: the compiled one where there is one, in whichever order the packages are imported."""

import importlib
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
from mmselfsup_graft.ops.finder import operators_in_use
print(spec.origin if spec.origin == 'mmselfsup_graft.ops' else 'file', operators_in_use())
assert 'torch' not in sys.modules
"""


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
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    if compiled:
        (tmp_path / 'mmcv' / '_ext.py').touch()
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}', VARIABLE: wish}
    command = [sys.executable, '-c', SCRIPT.format(order=order)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected


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
    assert 'tools/install.sh --compiled-ops' in str(error.value)
