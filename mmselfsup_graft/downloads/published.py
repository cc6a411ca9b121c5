"""What others publish: one entry per file, read from ``published.yml``."""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.suggestions import nearest

from .download import Weights

DATA = Path(__file__).with_name('published.yml')
_NAME = re.compile(r'[a-z0-9]+(-[a-z0-9]+)*')
_TEXT, _COUNT = re.compile(r'\S.*'), int
_PROJECT = {'project': _TEXT, 'page': re.compile(r'https://\S+'), 'source': _TEXT, 'license': _TEXT, 'files': list}
_FILE: dict[str, Any] = {
    'name': _NAME,
    'url': re.compile(r'https://\S+'),
    'page': re.compile(r'https://\S+'),
    'sha256': re.compile(r'[0-9a-f]{8,64}'),
    'md5': re.compile(r'[0-9a-f]{6,32}'),
    'size': _COUNT,
    'architecture': _TEXT,
    'format': _TEXT,
    'kind': _TEXT,
    'epochs': _COUNT,
    'config': _TEXT,
}


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file that others publish.

    Attributes:
        name: What ``zoo:NAME`` calls it.
        project: Who published it.
        page: Where people find it.
        source: Where on the page, or elsewhere, address and hash were read.
        license: SPDX identifier of the project's license, or where it is stated.
        url: Address of the file; None if there is only a page.
        sha256: SHA-256 that the publisher states, or its first digits; None if there is none.
        md5: MD5 likewise.
        size: Bytes; None if nothing states them.
        architecture: Of the encoder; empty for a list.
        format: Format of the checkpoint; None where it is found by its tensors alone, or is not a checkpoint.
        kind: ``pre-trained``, ``fine-tuned``, ``linear classifier``, ``list`` ...
        epochs: Of pre-training; None if the page does not state them.
        config: Name of the model of this toolbox whose encoder it fits; None if there is none.
    """

    name: str
    project: str
    page: str
    source: str
    license: str
    url: str | None = None
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    architecture: str = ''
    format: str | None = None
    kind: str = 'pre-trained'
    epochs: int | None = None
    config: str | None = None

    @property
    def weights(self) -> Weights:
        """What :func:`mmselfsup_graft.downloads.download.download` takes."""
        return Weights(self.url, self.sha256, self.md5, page=self.page, name=self.name)


@cache
def published_files() -> dict[str, PublishedFile]:
    """All entries by name, in the order of the data file."""
    return parse_published(yaml.safe_load(DATA.read_text(encoding='utf-8')))


def parse_published(content: Any) -> dict[str, PublishedFile]:
    """Entries of the content of a data file, by name.

    Raises:
        ConfigError: If a key is missing, unknown or has a value of another kind, a name occurs twice, or two files
            would have one name in the folder of downloads.
    """
    if not isinstance(content, list):
        raise ConfigError(f'published files: expected a list of projects, got {type(content).__name__}')
    found: dict[str, PublishedFile] = {}
    filenames: set[str] = set()
    for entry in _entries(content):
        if entry.name in found:
            raise ConfigError(f'published files: {entry.name} occurs twice')
        if entry.weights.filename in filenames:
            raise ConfigError(f'published files: two are called {entry.weights.filename}, one of them {entry.name}')
        found[entry.name] = entry
        filenames.add(entry.weights.filename)
    return found


def _entries(projects: list[Any]) -> Iterator[PublishedFile]:
    for project in projects:
        _check(project, _PROJECT, tuple(_PROJECT), 'a project')
        shared = {key: value for key, value in project.items() if key != 'files'}
        for file in project['files']:
            _check(file, _FILE, ('name',), project['project'])
            if 'url' not in file and 'page' not in file:
                raise ConfigError(f'published files, {file["name"]}: needs a url, or the page where it is')
            yield PublishedFile(**{**shared, **file})


def _check(entry: Any, kinds: Mapping[str, Any], needed: tuple[str, ...], where: str) -> None:
    """Compare the keys and values of an entry with what is expected."""
    if not isinstance(entry, dict):
        raise ConfigError(f'published files, {where}: expected keys and values, got {entry!r}')
    problems = [f'lacks {key!r}' for key in needed if key not in entry]
    problems += [f'has an unknown key {key!r}' for key in entry if key not in kinds]
    for key, value in entry.items():
        kind = kinds.get(key)
        is_fine = isinstance(value, kind) if isinstance(kind, type) else isinstance(value, str)
        if kind and not (is_fine and (isinstance(kind, type) or kind.fullmatch(value))):
            problems.append(f'has {key}={value!r}')
    if problems:
        raise ConfigError(f'published files, {entry.get("name", where)}: {"; ".join(problems)}')


def list_files(pattern: str = '*') -> list[PublishedFile]:
    """Files whose names match a pattern with ``*`` and ``?``; without wildcards a part of the name is enough."""
    wild = pattern if any(sign in pattern for sign in '*?[') else f'*{pattern}*'
    return [file for name, file in published_files().items() if fnmatch.fnmatchcase(name, wild)]


def files_of(config: str) -> list[PublishedFile]:
    """Files that fit the encoder of a model of this toolbox: those with an address first."""
    fitting = [file for file in published_files().values() if file.config == config]
    return sorted(fitting, key=lambda file: file.url is None)


def find_published(name: str) -> PublishedFile:
    """The file of this name; the name of a model stands for the first file that fits it.

    Raises:
        ConfigError: If it does not exist.
    """
    files = published_files()
    if name in files:
        return files[name]
    fitting = files_of(name)
    if fitting:
        return fitting[0]
    similar = [each for each in files if name and name in each][:3] or nearest(name, files, 3)
    advice = f'did you mean {" or ".join(similar)}?' if similar else 'tools/download_weights.py --list names all'
    raise ConfigError(f'the zoo has no file {name!r}; {advice}')
