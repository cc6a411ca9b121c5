"""The data of the zoo: its form, its agreement with the configs, and the table in the docs."""

import copy
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from mmselfsup_graft.checkpoints import FORMATS
from mmselfsup_graft.downloads.published import (
    PublishedFile,
    files_of,
    find_published,
    list_files,
    parse_published,
    published_files,
)
from mmselfsup_graft.errors import CheckpointError, ConfigError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs' / 'zoo.md'
MARKS = ('<!-- table of the zoo -->\n', '<!-- end of the table -->\n')
GOOD = [
    {
        'project': 'P',
        'page': 'https://p.org',
        'source': 'README',
        'license': 'MIT',
        'files': [
            {'name': 'a', 'url': 'https://p.org/a.pth', 'md5': 'abcdef'},
            {'name': 'b', 'page': 'https://p.org/b'},
        ],
    }
]


def models() -> dict[str, dict[str, Any]]:
    paths = (ROOT / 'configs').glob('*/metafile.yml')
    return {model['Name']: model for path in paths for model in yaml.safe_load(path.read_text())['Models']}


def test_a_good_file() -> None:
    a, b = parse_published(GOOD).values()
    assert (a.project, a.license, a.md5, a.sha256, a.kind) == ('P', 'MIT', 'abcdef', None, 'pre-trained')
    assert (a.weights.filename, b.weights.filename, b.page, b.url) == ('a.pth', 'b.pth', 'https://p.org/b', None)


@pytest.mark.parametrize(
    ('where', 'key', 'value', 'message'),
    [
        ('project', 'licence', 'MIT', "unknown key 'licence'"),
        ('project', 'page', 'http://p.org', 'page='),
        ('project', 'license', None, 'license=None'),
        ('project', 'files', {}, 'files='),
        ('file', 'name', 'b', 'b occurs twice'),
        ('file', 'name', 'A b', "name='A b'"),
        ('file', 'sha256', 'abcdef0', 'sha256='),
        ('file', 'sha256', 12345678, 'sha256=12345678'),
        ('file', 'md5', 'ABCDEF', 'md5='),
        ('file', 'url', 'ftp://p.org/a.pth', 'url='),
        ('file', 'url', 'https://p.org/b.pth', r'two are called b\.pth'),
        ('file', 'size', '3', "size='3'"),
        ('file', 'colour', 'red', "a: has an unknown key 'colour'"),
    ],
)
def test_a_bad_entry(where: str, key: str, value: Any, message: str) -> None:
    content = copy.deepcopy(GOOD)
    part: dict[str, Any] = content[0] if where == 'project' else content[0]['files'][0]  # type: ignore[index,assignment]
    part[key] = value
    with pytest.raises(ConfigError, match=message):
        parse_published(content)


@pytest.mark.parametrize('key', ['project', 'page', 'source', 'license', 'files', 'name', 'url'])
def test_a_missing_key(key: str) -> None:
    content = copy.deepcopy(GOOD)
    part: dict[str, Any] = content[0] if key in content[0] else content[0]['files'][0]  # type: ignore[index,assignment]
    del part[key]
    with pytest.raises(ConfigError, match=f'lacks {key!r}|needs a url'):
        parse_published(content)


@pytest.mark.parametrize('content', [None, 'text', {'project': 'P'}, [None], [{**GOOD[0], 'files': [None]}]])
def test_something_else(content: Any) -> None:
    with pytest.raises(ConfigError, match='published files'):
        parse_published(content)


def test_every_project_is_there() -> None:
    projects = {file.project for file in published_files().values()}
    assert projects >= {'Layer Grafted', 'TEC', 'A2MIM', 'MAE', 'MoCo', 'MoCo v3', 'SwAV', 'iBOT', 'SimCLR'}


@pytest.mark.parametrize('file', published_files().values(), ids=lambda file: file.name)
def test_an_entry_agrees_with_formats_and_configs(file: PublishedFile) -> None:
    assert file.format is None or file.format in {each.name for each in FORMATS}
    assert bool(file.architecture) == (file.kind != 'list')
    if file.config is not None:
        model = models()[file.config]
        assert file.architecture == model['Metadata']['Architecture']
        assert file.epochs == model['Metadata']['Epochs']
        assert file in files_of(file.config)
    if file.project == 'mmpretrain':
        assert file.url is not None
        assert file.sha256 is not None
        assert file.url.endswith(f'-{file.sha256}.pth')
    if file.url is None:
        assert urlsplit(file.page).netloc in ('drive.google.com', 'www.dropbox.com')


#: start of an entry's name -> start of the names of the configs of its method
METHODS = {'mocov2': 'moco-v2_', 'moco-v1': 'moco-v1_', 'moco-v2': 'moco-v2_', 'mocov3': 'mocov3_', 'swav': 'swav_'}
METHODS |= {'mae': 'mae_', 'simmim': 'simmim_', 'a2mim': 'a2mim_', 'byol': 'byol_', 'layer-grafted': 'layer-grafted_'}


@pytest.mark.parametrize('file', published_files().values(), ids=lambda file: file.name)
def test_an_entry_names_the_config_that_it_fits(file: PublishedFile) -> None:
    name = file.name.removeprefix('mmpretrain-')
    starts = [start for word, start in METHODS.items() if name.startswith(f'{word}-')]
    if file.kind != 'pre-trained' or not starts or file.config is not None:
        return
    fitting = [
        each['Name']
        for each in models().values()
        if each['Name'].startswith(starts[0])
        and each['Name'].endswith('_in1k')
        and (each['Metadata']['Architecture'], each['Metadata']['Epochs']) == (file.architecture, file.epochs)
    ]
    assert not fitting, f'{file.name} fits {fitting}: name one, or say here why not'


def test_names() -> None:
    config = 'mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k'
    names = [file.name for file in files_of(config)]
    assert names == ['mmpretrain-mae-vit-base-1600e', 'mae-vit-base', 'mae-vit-base-full']
    assert find_published(config).name == 'mmpretrain-mae-vit-base-1600e'
    assert find_published('simclr-1percent').kind == 'list'
    with pytest.raises(ConfigError, match='did you mean mae-vit-base'):
        find_published('mae-vit-bse')
    for name in ('', '???'):
        with pytest.raises(ConfigError, match='names all'):
            find_published(name)
    assert [file.name for file in list_files('simclr-*percent')] == ['simclr-1percent', 'simclr-10percent']


def test_malformed_digits() -> None:
    from mmselfsup_graft.downloads.download import Weights, download

    with pytest.raises(CheckpointError, match='not an MD5'):
        download(Weights('https://nowhere.invalid/a.pth', None, 'abc'))


# ---------------------------------------------------------------- docs
def table() -> str:
    """The entries as Markdown, a table per project and page."""
    lines: list[str] = []
    before = None
    for file in published_files().values():
        group = (file.project, file.source)
        if group != before:
            page = re.sub(r'^https://(github\.com/)?', '', file.page) if file.url else ''
            home = f'[{page}]({file.page})' if file.url else 'see the links'
            lines += ['', f'**{file.project}**: {home}, {file.source}. License: {file.license}.', '']
            lines += ['| `zoo:` name | file | encoder | epochs | format | hash |', f'|{" --- |" * 6}']
            before = group
        place = f'[download]({file.url})' if file.url else f'[by hand]({file.page})'
        kind = f'{file.architecture}, {file.kind}'.lstrip(', ') if file.kind != 'pre-trained' else file.architecture
        digits = f'SHA-256 {file.sha256[:8]}{" (all)" if len(file.sha256) == 64 else ""}' if file.sha256 else '-'
        digits = f'MD5 {file.md5}' if file.md5 else digits
        lines.append(f'| `{file.name}` | {place} | {kind} | {file.epochs or "-"} | {file.format or "-"} | {digits} |')
    return '\n'.join(lines).lstrip('\n') + '\n'


def test_the_table_in_the_docs() -> None:
    """``python tests/test_downloads/test_published.py`` writes it."""
    text = DOCS.read_text(encoding='utf-8')
    assert text.partition(MARKS[0])[2].partition(MARKS[1])[0].strip('\n') == table().strip('\n')


if __name__ == '__main__':
    written = DOCS.read_text(encoding='utf-8')
    start, _, rest = written.partition(MARKS[0])
    DOCS.write_text(f'{start}{MARKS[0]}\n{table()}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}', encoding='utf-8')
