"""A server of files, and a zoo whose addresses lead to it."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_server import Server, answer

from mmselfsup_graft.downloads import published
from mmselfsup_graft.downloads.published import PublishedFile, published_files

Publish = Callable[..., PublishedFile]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ('GRAFT_MIRROR', 'GRAFT_OFFLINE', 'http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('GRAFT_WEIGHTS', str(tmp_path / 'weights'))
    (tmp_path / 'weights').mkdir()
    return tmp_path / 'weights'


@pytest.fixture
def publish(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """A function that makes a content the only file of the zoo, with as many digits of its hashes as are asked for."""

    def publish(content: bytes, sha256: int = 64, md5: int = 0, **options: Any) -> PublishedFile:
        entry = PublishedFile(
            name='tiny',
            project='A test',
            page='https://nowhere.invalid/page',
            source='README.md',
            license='CC0-1.0',
            url=server.url.replace('a.pth', 'tiny.pth'),
            sha256=hashlib.sha256(content).hexdigest()[:sha256] or None,
            md5=hashlib.md5(content, usedforsecurity=False).hexdigest()[:md5] or None,
        )
        entry = replace(entry, **options)
        server.answers = [answer('200 OK', content, f'Content-Length: {len(content)}')]
        monkeypatch.setattr(published, 'published_files', lambda: {entry.name: entry})
        return entry

    return publish


@pytest.fixture
def real() -> dict[str, PublishedFile]:
    """The zoo itself."""
    return published_files()
