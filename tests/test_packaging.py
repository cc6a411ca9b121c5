"""One source of truth for requirements; the built wheel carries the mim plugin; the package imports lightly."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'


def requirements(name: str) -> list[Requirement]:
    lines = (REQUIREMENTS / name).read_text(encoding='utf-8').splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith('#')]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of what belongs into it, so that the source tree stays clean."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for name in ('mmselfsup_graft', 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml'):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', str(target), str(source)]
    if Version(version('setuptools')) >= Version('77'):  # else let pip fetch one that pyproject.toml asks for
        command.append('--no-build-isolation')
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return zipfile.ZipFile(next(target.glob('mmselfsup_graft-*.whl')))


def test_setup_writes_no_requirement_of_its_own():
    strings = [n.value for n in ast.walk(ast.parse((ROOT / 'setup.py').read_text())) if isinstance(n, ast.Constant)]
    files = ('base', 'fast', 'look', 'export', 'hub', 'dali', 'tests', 'transfer', 'benchmarks', 'docs')
    named = {requirement.name for name in files for requirement in requirements(f'{name}.txt')}
    assert not named & {re.split(r'[<>=!~ ]', value)[0] for value in strings if isinstance(value, str)}


@pytest.mark.parametrize('python', ['3.10.0', '3.11.0', '3.12.0'])
@pytest.mark.parametrize(
    'name', ['base', 'fast', 'look', 'export', 'hub', 'dali', 'tests', 'transfer', 'benchmarks', 'docs']
)
def test_every_requirement_has_one_tested_version_inside_its_range(name, python):
    environment = {'python_version': python.rpartition('.')[0], 'python_full_version': python}
    pins = [pin for pin in requirements('constraints.txt') if not pin.marker or pin.marker.evaluate(environment)]
    for requirement in requirements(f'{name}.txt'):
        exact = [str(pin.specifier).removeprefix('==') for pin in pins if pin.name == requirement.name]
        assert len(exact) == 1, f'{requirement.name} on Python {python}: {exact}'
        assert requirement.specifier.contains(exact[0])


def test_compiled_operators_go_with_versions_inside_the_ranges():
    exact = {pin.name: str(pin.specifier).removeprefix('==') for pin in requirements('compiled_ops.txt')}
    allowed = {requirement.name: requirement.specifier for requirement in requirements('base.txt')}
    assert exact.keys() == {'torch', 'torchvision'}
    assert all(allowed[name].contains(value) for name, value in exact.items())


def test_the_wheel_declares_the_requirement_files(wheel):
    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith('METADATA'))).decode()
    declared = [Requirement(line.partition(': ')[2]) for line in metadata.splitlines() if line.startswith('Requires-D')]
    plain = {(r.name, r.specifier) for r in declared if r.marker is None}
    assert plain == {(r.name, r.specifier) for r in requirements('base.txt')}
    assert re.search(r'^Requires-Python: (<3.13,>=3.10|>=3.10,<3.13)$', metadata, re.MULTILINE)
    assert {'fast', 'look', 'export', 'hub', 'dali', 'tests', 'transfer', 'benchmarks', 'docs'} == set(
        re.findall(r'^Provides-Extra: (\w+)$', metadata, re.MULTILINE)
    )


def test_the_wheel_carries_the_plugin_folder_and_all_code(wheel):
    names = set(wheel.namelist())
    prefix = 'mmselfsup_graft/.mim'
    tracked = [path for part in ('configs', 'tools') for path in (ROOT / part).rglob('*') if path.is_file()]
    expected = [path for path in tracked if '__pycache__' not in path.parts]
    assert {f'{prefix}/{path.relative_to(ROOT).as_posix()}' for path in expected} <= names
    assert f'{prefix}/tools/check_env.py' in names
    if (ROOT / 'model-index.yml').is_file():
        assert f'{prefix}/model-index.yml' in names
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'mmselfsup_graft').rglob('*.py')}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'mmselfsup_graft').rglob('templates/*')}
    assert templates
    assert code | templates | {'mmselfsup_graft/py.typed', 'mmselfsup_graft/downloads/published.yml'} <= names
    assert not [name for name in names if name.endswith('.pyc') or name.startswith(('tests/', 'configs/', 'tools/'))]


def test_the_source_tree_holds_no_plugin_folder():
    assert not (ROOT / 'mmselfsup_graft' / '.mim').exists()


def test_importing_the_package_imports_nothing_heavy():
    script = 'import sys, mmselfsup_graft; print([m for m in ("torch", "mmengine", "numpy") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
