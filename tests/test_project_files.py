"""Files beside the code: citation, changelog, forms, workflow, hooks, Dockerfile. Their commands and paths exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmselfsup_graft.version import __version__

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / '.github'
SCHEMAS = {
    'citation-file-format': [ROOT / 'CITATION.cff'],
    'github-workflows': sorted((GITHUB / 'workflows').glob('*.yml')),
    'github-issue-forms': sorted(
        set((GITHUB / 'ISSUE_TEMPLATE').glob('*.yml')) - {GITHUB / 'ISSUE_TEMPLATE/config.yml'}
    ),
    'github-issue-config': [GITHUB / 'ISSUE_TEMPLATE' / 'config.yml'],
}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('schema', SCHEMAS)
def test_schemas(schema):
    command = [sys.executable, '-m', 'check_jsonschema', '--builtin-schema', f'vendor.{schema}', *SCHEMAS[schema]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation_is_of_this_version():
    citation = read(ROOT / 'CITATION.cff')
    assert str(citation['version']) == __version__
    assert citation['license'] in (ROOT / 'setup.py').read_text()


def test_the_changelog_knows_this_version():
    text = (ROOT / 'CHANGELOG.md').read_text()
    headings = re.findall(r'^## (.*)$', text, re.MULTILINE)
    assert headings[0] == 'Unreleased'
    assert __version__ in text
    kinds = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security', 'Known limits'}
    assert set(re.findall(r'^### (.*)$', text, re.MULTILINE)) <= kinds


def test_the_workflow_runs_what_ci_runs():
    workflow = read(GITHUB / 'workflows' / 'ci.yml')
    job = workflow['jobs']['ci']
    assert [step['run'] for step in job['steps'] if 'run' in step] == ['bash .ci/run']
    metadata = (ROOT / 'setup.py').read_text()
    assert job['strategy']['matrix']['python'] == re.findall(r'Python :: (3\.\d+)', metadata)


def test_hooks_use_programs_of_the_tests():
    hooks = read(ROOT / '.pre-commit-config.yaml')['repos']
    assert [each['repo'] for each in hooks] == ['local']
    requirements = (ROOT / 'requirements' / 'tests.txt').read_text()
    for hook in hooks[0]['hooks']:
        program, *arguments = shlex.split(hook['entry'])
        name = arguments[1] if program == '.venv/bin/python' else Path(program).name
        assert re.search(rf'^{name}(-py|-bin)?>=', requirements, re.MULTILINE), hook['id']
        assert all((ROOT / each).exists() for each in arguments if each.startswith('tests/'))


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and their text."""
    text = re.sub(r'^#.*\n', '', (ROOT / 'Dockerfile').read_text(), flags=re.MULTILINE).replace('\\\n', ' ')
    return [(word, rest) for word, _, rest in (line.partition(' ') for line in text.splitlines() if line.strip())]


def test_the_dockerfile_copies_and_runs_what_exists():
    instructions = dockerfile()
    for word, rest in instructions:
        if word == 'COPY':
            assert all((ROOT / each).exists() for each in rest.split()[:-1])
        if word == 'RUN':
            named = re.findall(r'(?<!\S)(?:tools|requirements)/[\w/.-]+', rest)
            assert all((ROOT / each).is_file() for each in named), rest
            assert subprocess.run(['bash', '-n', '-c', rest], check=False).returncode == 0, rest
    copied = [rest.split()[0] for word, rest in instructions if word == 'COPY']
    ignored = (ROOT / '.dockerignore').read_text().split()
    assert not set(copied) & set(ignored)
    used = {each for part in ('tools', 'mmselfsup_graft', 'configs', 'requirements') for each in (part, f'{part}/')}
    assert not used & set(ignored)


def test_no_tracked_file_chooses_a_package_index():
    """Packages come from wherever pip, apt and npm of a machine are set up to look."""
    files = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        '\n'
    )
    if not any(files):
        pytest.skip('not a git checkout')
    option = re.compile('--(?:extra-)?index-url|--find-links|PIP_INDEX_URL')
    scripts = [
        ROOT / name for name in files if name.endswith(('.sh', '.txt', '.toml', '.yml', 'Dockerfile', '.ci/run'))
    ]
    found = [str(path) for path in scripts if path.is_file() and option.search(path.read_text(errors='replace'))]
    assert not found
