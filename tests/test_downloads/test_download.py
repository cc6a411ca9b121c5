"""Downloads against a server of our own that cuts connections, sends wrong bytes or cannot resume."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmselfsup_graft.downloads.download import Weights, download
from mmselfsup_graft.downloads.http_fetch import Limits
from mmselfsup_graft.errors import CheckpointError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FAST = Limits(patience=0.0)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; what it does wrong is set from outside."""

    cut_after: list[int]  # bytes after which the next connections are cut
    codes: list[int]  # status codes of the next connections
    resumes: bool
    ranges: list[str | None]  # what was asked for
    paths: list[str]

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.cut_after, self.codes, self.resumes, self.ranges, self.paths = [], [], True, [], []

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/models/vit%20base.pth?raw=1'


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get('Range')
        self.server.ranges.append(asked)
        self.server.paths.append(self.path)
        if self.server.codes:
            self.send_error(self.server.codes.pop(0))
            return
        start = int(asked.removeprefix('bytes=').rstrip('-')) if asked and self.server.resumes else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}')
        self.send_header('Content-Length', str(len(CONTENT) - start))
        self.end_headers()
        stop = start + self.server.cut_after.pop(0) if self.server.cut_after else len(CONTENT)
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ('GRAFT_MIRROR', 'GRAFT_OFFLINE', 'http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('GRAFT_WEIGHTS', str(tmp_path / 'weights'))


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / 'weights').glob('[!.]*'))


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    path = download(Weights(server.url, SHA256))
    assert path == tmp_path / 'weights' / 'vit base.pth'
    assert path.read_bytes() == CONTENT
    assert download(Weights(server.url, SHA256[:8])) == path
    assert server.ranges == [None]
    assert kept(tmp_path) == ['vit base.pth']


def test_cut_connections_are_resumed(server: Server) -> None:
    server.cut_after = [100_000, 200_000]
    path = download(Weights(server.url, SHA256), limits=FAST)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, 'bytes=100000-', 'bytes=300000-']


def test_the_next_call_goes_on_where_this_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.cut_after = [100_000, 100_000]
    with pytest.raises(CheckpointError, match=r'in 2 attempts: the connection was cut; 0\.2 MiB are kept'):
        download(Weights(server.url, SHA256), limits=Limits(attempts=2, patience=0.0))
    assert kept(tmp_path) == ['vit base.pth.part']
    assert download(Weights(server.url, SHA256)).read_bytes() == CONTENT
    assert server.ranges[-1] == 'bytes=200000-'


def test_a_server_that_cannot_resume_sends_all_of_it(server: Server) -> None:
    server.cut_after, server.resumes = [100_000], False
    assert download(Weights(server.url, SHA256), limits=FAST).read_bytes() == CONTENT


def test_a_complete_part_needs_only_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'vit base.pth.part').write_bytes(CONTENT)
    assert download(Weights(server.url, SHA256)).read_bytes() == CONTENT
    assert kept(tmp_path) == ['vit base.pth']


def test_the_rest_of_another_file_is_given_up(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'vit base.pth.part').write_bytes(b'x' * 1000)
    assert download(Weights(server.url, SHA256)).read_bytes() == CONTENT


def test_two_at_once(server: Server) -> None:
    server.cut_after = [100_000]
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: download(Weights(server.url, SHA256), limits=Limits(patience=0.05)), range(2)))
    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == CONTENT
    assert server.ranges == [None, 'bytes=100000-'], 'the second waits for the first'


def test_mirror_on_a_server(server: Server) -> None:
    mirror = server.url.partition('/models')[0] + '/copies/'
    assert download(Weights('https://nowhere.invalid/vit%20base.pth', SHA256), mirror=mirror).read_bytes() == CONTENT
    assert server.paths == ['/copies/vit%20base.pth']


def test_errors_of_the_server(server: Server) -> None:
    server.codes = [503]
    assert download(Weights(server.url, SHA256), limits=FAST).read_bytes() == CONTENT
    server.codes = [404]
    with pytest.raises(CheckpointError, match='says 404 Not Found; check the address'):
        download(Weights(server.url.replace('base', 'large'), SHA256), limits=FAST)
    assert len(server.ranges) == 3, 'a missing file is asked for once'


def test_a_wrong_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f'has SHA-256 {SHA256[:8]}, expected 01234567; it was not kept'):
        download(Weights(server.url, '01234567'))
    assert kept(tmp_path) == []
    with pytest.raises(CheckpointError, match='is not a SHA-256'):
        download(Weights(server.url, '0123'))


def test_a_damaged_file_in_the_folder_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'vit base.pth').write_bytes(CONTENT[:-1])
    assert download(Weights(server.url, SHA256)).read_bytes() == CONTENT


@pytest.mark.parametrize('as_url', [True, False])
def test_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_url: bool) -> None:
    folder = tmp_path / 'my mirror'
    folder.mkdir()
    (folder / 'vit base.pth').write_bytes(CONTENT)
    monkeypatch.setenv('GRAFT_MIRROR', folder.as_uri() if as_url else str(folder))
    assert download(Weights(server.url, SHA256), offline=True).read_bytes() == CONTENT
    assert not server.ranges
    with pytest.raises(CheckpointError, match=r'vit large\.pth does not exist; check the path or the mirror'):
        download(Weights(server.url.replace('base', 'large'), SHA256))


def test_offline(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GRAFT_OFFLINE', '1')
    with pytest.raises(CheckpointError, match='offline mode does not allow'):
        download(Weights(server.url, SHA256))
    assert not server.ranges
    path = download(Weights(server.url, SHA256), offline=False)
    assert download(Weights(server.url, SHA256)) == path


def test_nobody_answers(server: Server) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match=r'could not be downloaded in 2 attempts: .*refused'):
        download(Weights(url, SHA256), limits=Limits(attempts=2, patience=0.0))
