"""The environment report names what is missing and the command that installs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmselfsup_graft.utils import environment
from mmselfsup_graft.utils.environment import Row, can_pretrain, check_environment, format_report

WORKING = 'import torch; nms = lambda *boxes, **options: torch.tensor([0])'
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


@pytest.fixture
def other_mmcv(monkeypatch, tmp_path):
    """An empty package in the place of mmcv; returns its folder."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    names = ('mmcv', 'mmcv._ext')
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield tmp_path / 'mmcv'
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


@pytest.mark.parametrize(
    ('extension', 'wish', 'found', 'note'),
    [
        (None, '', 'torchvision 1.2', 'compiled ones are optional'),
        (None, 'compiled', 'torchvision 1.2', 'compiled ones are optional'),
        (WORKING, '', 'compiled', 'without bfloat16'),
        (WORKING, 'torchvision', 'torchvision 1.2', 'set by GRAFT_MMCV_OPS'),
        ("raise ImportError('undefined symbol: x')", '', 'torchvision 1.2', 'do not work: undefined symbol: x'),
    ],
)
def test_whose_operators_mmcv_has(monkeypatch, other_mmcv, extension, wish, found, note):
    if extension is not None:
        (other_mmcv / '_ext.py').write_text(extension)
    monkeypatch.setenv('GRAFT_MMCV_OPS', wish)
    row = rows_with(monkeypatch, {'torchvision': '1.2'})['mmcv ops']
    assert (row.status, row.found) == ('ok', found)
    assert note in row.note
    assert bool(row.fix) is ('optional' in note or 'do not' in note)
    assert row.fix in format_report([row])


@pytest.mark.parametrize('torch', ['2.13.1+cpu', '2.14.1'])
@pytest.mark.parametrize('checkout', [True, False])
def test_the_command_to_compile_fits_the_torch(monkeypatch, tmp_path, other_mmcv, torch, checkout):
    monkeypatch.setenv('GRAFT_MMCV_OPS', '')
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'other venv'))
    if not checkout:  # the package in some site-packages
        monkeypatch.setattr(environment, '__file__', str(tmp_path / 'mmselfsup_graft' / 'utils' / 'environment.py'))
        monkeypatch.setattr(environment, '_requirements', lambda group: [])
    fix = rows_with(monkeypatch, {'torch': torch, 'onedl-mmcv': '2.3.6'})['mmcv ops'].fix
    new = torch == '2.14.1'
    if checkout:
        expected = (
            f"GRAFT_VENV='{tmp_path}/other venv' bash {ROOT}/tools/install.sh --transfer --compiled-ops"
            if new
            else f'bash {ROOT}/tools/build_mmcv_ops.sh {sys.executable}'
        )
        assert fix == expected
    else:
        assert ("install 'torch<2.14' torchvision && " in fix) is new
        assert 'onedl-mmcv==2.3.6' in fix


def test_the_torch_of_the_compiled_operators_is_one_they_can_be_built_for():
    pins = dict(line.split('==') for line in (ROOT / 'requirements' / 'compiled_ops.txt').read_text().splitlines()[2:])
    assert environment._satisfies(pins['torch'], f'<{environment.FIRST_TORCH_WITHOUT_COMPILED_OPS}')


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
