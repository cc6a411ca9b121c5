"""The environment report names what is missing and the command that installs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmselfsup_graft.apis import environment
from mmselfsup_graft.apis.environment import Row, can_pretrain, check_environment, format_report

ROOT = Path(__file__).resolve().parents[2]


def rows_with(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None]) -> dict[str, Row]:
    real = environment._version_of
    monkeypatch.setattr(environment, '_version_of', lambda name: versions[name] if name in versions else real(name))
    return {row.name: row for row in check_environment()}


def test_this_environment_can_pretrain():
    rows = check_environment()
    assert can_pretrain(rows)
    names = {row.name for row in rows}
    assert {'python', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmcv ops', 'mmdet', 'cpu'} <= names
    assert 'Pre-training can run.' in format_report(rows)


def test_a_missing_requirement_blocks_and_gets_its_command(monkeypatch):
    rows = rows_with(monkeypatch, {'onedl-mmpretrain': None})
    assert rows['mmpretrain'].status == 'bad'
    assert "pip install 'onedl-mmpretrain>=" in rows['mmpretrain'].fix
    report = format_report(list(rows.values()))
    assert rows['mmpretrain'].fix in report
    assert 'cannot run yet' in report


def test_an_incompatible_version_blocks(monkeypatch):
    rows = rows_with(monkeypatch, {'torch': '2.10.0+cu130'})
    assert (rows['torch'].status, rows['torch'].found) == ('bad', '2.10.0+cu130')


def test_the_discontinued_distribution_is_told_apart(monkeypatch):
    rows = rows_with(monkeypatch, {'mmcv': '2.1.0'})
    assert rows['mmcv'].status == 'bad'
    assert 'uninstall -y mmcv' in rows['mmcv'].fix


def test_missing_detection_does_not_block(monkeypatch):
    rows = rows_with(monkeypatch, {'onedl-mmdetection': None})
    assert rows['mmdet'].status == 'optional'
    assert 'Detection and segmentation cannot (mmdet' in format_report(list(rows.values()))
    assert can_pretrain(list(rows.values()))


@pytest.mark.parametrize(
    ('compiled', 'wish', 'found'),
    [
        (False, '', 'torchvision 1.2'),
        (False, 'compiled', 'torchvision 1.2'),
        (True, '', 'compiled'),
        (True, 'torchvision', 'torchvision 1.2'),
    ],
)
def test_whose_operators_mmcv_has(monkeypatch, tmp_path, compiled, wish, found):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    if compiled:
        (tmp_path / 'mmcv' / '_ext.cpython-311-x86_64-linux-gnu.so').touch()
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('GRAFT_MMCV_OPS', wish)
    row = rows_with(monkeypatch, {'torchvision': '1.2'})['mmcv ops']
    assert (row.status, row.found) == ('ok', found)
    assert ('build_mmcv_ops.sh' in row.fix) is not compiled
    assert row.fix in format_report([row])


@pytest.mark.parametrize(
    ('version', 'spec', 'expected'),
    [
        ('2.11.0', '>=2.11,<2.14', True),
        ('2.13.0+cpu', '>=2.11,<2.14', True),
        ('2.14.0a0', '>=2.11,<2.14', False),
        ('0.9.10', '>=0.10', False),
        ('3.5.1', '==3.5.1', True),
        ('1.0', '', True),
    ],
)
def test_version_ranges(version, spec, expected):
    assert environment._satisfies(version, spec) is expected


def test_the_tool_prints_json_and_leaves_with_zero():
    command = [sys.executable, str(ROOT / 'tools' / 'check_env.py'), '--json']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report['can_pretrain'] is True
    assert {'name', 'status', 'found', 'note', 'fix'} == set(report['rows'][0])


def test_the_tool_works_without_any_requirement():
    # -I -S hides every installed package; the tool itself puts the checkout on the path.
    command = [sys.executable, '-I', '-S', str(ROOT / 'tools' / 'check_env.py')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert 'To run pre-training:' in done.stdout
    assert "pip install 'torch>=" in done.stdout
