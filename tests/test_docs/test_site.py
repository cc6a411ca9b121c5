"""Links of the documentation site: to pages, to the repository, or text alone."""

import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
exceptions = pytest.importorskip('mkdocs.exceptions', reason='bash tools/install.sh --docs')


@pytest.fixture(scope='module')
def hooks():
    spec = importlib.util.spec_from_file_location('site_hooks', ROOT / 'docs' / 'site_hooks.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ('page', 'link', 'expected'),
    [
        ('index.md', '[a](docs/run.md#recipes)', '[a](run.md#recipes)'),
        ('index.md', '![a](docs/images/cascade.svg)', '![a](images/cascade.svg)'),
        ('index.md', '[a](configs/mae/README.md)', '[a](methods/mae.md)'),
        ('run.md', '[a](../SECURITY.md)', '[a](security.md)'),
        ('methods/benchmarks-finetune.md', '[a](../../tec/README.md)', '[a](tec.md)'),
        ('methods/mae.md', '[`a`](../../docs/scale.md)', '[`a`](../scale.md)'),
        ('run.md', '[a](#recipes) [b](https://host.example/x)', '[a](#recipes) [b](https://host.example/x)'),
        ('run.md', '[a](../setup.py)', '[a](https://git.example/r/blob/HEAD/setup.py)'),
    ],
)
def test_links(hooks, page, link, expected):
    assert hooks.with_links(link, page, 'https://git.example/r') == expected


def test_links_without_a_repository(hooks):
    assert hooks.with_links('see [setup](../setup.py).', 'run.md', '') == 'see setup.'


def test_a_dead_link_is_an_error(hooks):
    with pytest.raises(exceptions.PluginError, match=r'none\.md does not exist'):
        hooks.with_links('[a](none.md)', 'run.md', '')


def test_every_page_is_in_the_navigation(hooks):
    text = (ROOT / 'mkdocs.yml').read_text()
    named = {line.rpartition(': ')[2].strip() for line in text[text.index('\nnav:') :].splitlines() if '.md' in line}
    pages = {path.relative_to(ROOT / 'docs').as_posix() for path in (ROOT / 'docs').rglob('*.md')}
    assert named == pages | set(hooks.OUTSIDE.values())
    assert yaml.safe_load(text[text.index('\nnav:') :])['nav']
