"""Downloads from servers that lie, stall or lead elsewhere, and into folders where something else lies in the way."""

import gzip
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest
from hostile_server import CONTENT, SHA256, SIZE, Answer, Server, answer, whole

from mmselfsup_graft.downloads import part_file
from mmselfsup_graft.downloads.download import Weights, download
from mmselfsup_graft.downloads.http_fetch import Limits
from mmselfsup_graft.errors import CheckpointError, DiskFullError

PATIENT = Limits(patience=0.0, timeout=30.0)  # a busy machine may be slower than the servers below
FAST = Limits(patience=0.0, timeout=0.15, min_rate=SIZE)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ('GRAFT_MIRROR', 'GRAFT_OFFLINE', 'http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('GRAFT_WEIGHTS', str(tmp_path / 'weights'))
    (tmp_path / 'weights').mkdir()
    return tmp_path / 'weights'


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('[!.]*'))


def cut(size: int, *headers: str, length: int = SIZE) -> Answer:
    """The beginning of the file, then nothing more."""
    return answer('200 OK', CONTENT[:size], f'Content-Length: {length}', *headers)


def fetched(server: Server, limits: Limits = PATIENT) -> bytes:
    return download(Weights(server.url, SHA256), limits=limits).read_bytes()


def refused(server: Server, words: str, limits: Limits = FAST) -> None:
    with pytest.raises(CheckpointError, match=words):
        download(Weights(server.url, SHA256), limits=limits)


# ---------------------------------------------------------------- lengths
@pytest.mark.parametrize('length', ['Content-Length: -5', 'Content-Length: many', 'Content-Length: 1e3', 'X-None: 1'])
def test_no_length_to_go_by(length: str, server: Server, folder: Path) -> None:
    server.answers = [answer('200 OK', CONTENT, length)]
    assert fetched(server) == CONTENT
    assert kept(folder) == ['a.pth']


def test_without_a_length_a_cut_shows_by_the_hash_and_is_resumed(server: Server) -> None:
    server.answers = [answer('200 OK', CONTENT[:1000]), whole]
    assert fetched(server) == CONTENT
    assert server.ranges == [None, 'bytes=1000-']


def test_a_length_that_is_too_large_costs_attempts_only(server: Server) -> None:
    server.answers = [answer('200 OK', CONTENT, f'Content-Length: {SIZE + 5}'), whole]
    assert fetched(server) == CONTENT
    assert server.ranges == [None, f'bytes={SIZE}-']


def test_a_length_that_is_too_small_is_a_wrong_file(server: Server, folder: Path) -> None:
    server.answers = [answer('200 OK', CONTENT, f'Content-Length: {SIZE - 5}')]
    refused(server, 'has SHA-256')
    assert kept(folder) == []


def test_chunks(server: Server) -> None:
    body = b'%x\r\n%b\r\n0\r\n\r\n' % (SIZE, CONTENT)
    server.answers = [answer('200 OK', body, 'Transfer-Encoding: chunked')]
    assert fetched(server) == CONTENT


@pytest.mark.parametrize('rest', [b'', b'zz\r\n', b'9' * 70_000])
def test_broken_chunks_keep_what_arrived(rest: bytes, server: Server) -> None:
    body = b'3e8\r\n%b\r\n' % CONTENT[:1000]
    server.answers = [answer('200 OK', body + rest, 'Transfer-Encoding: chunked'), whole]
    assert fetched(server) == CONTENT
    assert server.ranges[1] == 'bytes=1000-'


def test_a_chunk_of_a_size_below_zero_is_a_wrong_file(server: Server, folder: Path) -> None:
    body = b'3e8\r\n%b\r\n-5\r\n%b' % (CONTENT[:1000], b'x' * 50)
    server.answers = [answer('200 OK', body, 'Transfer-Encoding: chunked'), whole]
    refused(server, 'SHA-256')
    assert kept(folder) == []


def test_a_reset_connection_keeps_what_arrived(server: Server, folder: Path) -> None:
    def reset(connection: socket.socket, request: str) -> None:
        cut(30_001)(connection, request)
        part = folder / 'a.pth.part'
        while not (part.exists() and part.stat().st_size == 30_001):  # an unfinished read would hold it back
            time.sleep(0.005)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        connection.close()

    server.answers = [reset, whole]
    assert fetched(server, Limits(patience=0.0, timeout=10.0)) == CONTENT
    assert server.ranges == [None, 'bytes=30001-']


# ---------------------------------------------------------------- size and time
@pytest.mark.parametrize('length', [f'Content-Length: {1 << 60}', f'Content-Length: {SIZE}', 'X-None: 1'])
def test_a_file_beyond_the_bound(length: str, server: Server, folder: Path) -> None:
    server.answers = [answer('200 OK', CONTENT, length)]
    refused(server, 'larger than', Limits(patience=0.0, max_bytes=SIZE - 1))
    assert len(server.requests) == 1
    assert kept(folder) == []


def test_an_endless_file(server: Server, folder: Path) -> None:
    def endless(connection: socket.socket, request: str) -> None:
        answer('200 OK')(connection, request)
        while True:
            connection.sendall(CONTENT)

    server.answers = [endless]
    refused(server, 'larger than', Limits(patience=0.0, max_bytes=10 * SIZE))
    assert kept(folder) == []


@pytest.mark.parametrize('where', ['nothing', 'head', 'body', 'chunk'])
def test_a_slow_drip_is_cut_and_resumed(where: str, server: Server) -> None:
    begin = {
        'nothing': b'',
        'head': b'HTTP/1.1 200 OK\r\nX: ',
        'body': b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % SIZE,
        'chunk': b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;',
    }[where]

    def drip(connection: socket.socket, _: str) -> None:
        connection.sendall(begin)
        for number in range(1000):
            time.sleep(0.01)
            connection.sendall(CONTENT[number : number + 1] if where == 'body' else b'x')

    server.answers = [drip, whole]
    assert fetched(server, FAST) == CONTENT
    assert len(server.requests) == 2
    got = int((server.ranges[1] or 'bytes=0-').removeprefix('bytes=').rstrip('-'))
    assert (0 < got < 100) == (where == 'body')


def test_only_drips_end_as_an_error(server: Server) -> None:
    server.answers = [lambda connection, _: time.sleep(1.0)]
    refused(server, 'in 2 attempts: (fewer than|timed out)', Limits(attempts=2, patience=0.0, timeout=0.05))


# ---------------------------------------------------------------- ranges
@pytest.mark.parametrize(
    'header',
    [
        f'Content-Range: bytes 7-{SIZE - 1}/{SIZE}',
        'Content-Range: text',
        'X-None: 1',
        f'Content-Range: bytes {"9" * 5000}-/*',
    ],
)
def test_another_range_than_was_asked_for(header: str, server: Server) -> None:
    server.answers = [cut(1000), answer('206 Partial Content', CONTENT[1000:], header), whole]
    assert fetched(server) == CONTENT
    assert server.ranges == [None, 'bytes=1000-', None]


def test_a_range_without_a_total(server: Server) -> None:
    server.answers = [cut(1000), answer('206 Partial Content', CONTENT[1000:], 'Content-Range: bytes 1000-1/*')]
    assert fetched(server) == CONTENT


def test_an_ignored_range_starts_anew(server: Server) -> None:
    server.answers = [cut(1000), cut(500), whole]
    assert fetched(server) == CONTENT
    assert server.ranges == [None, 'bytes=1000-', 'bytes=500-']


def test_a_part_of_the_wrong_file_of_full_length(server: Server, folder: Path) -> None:
    (folder / 'a.pth.part').write_bytes(b'x' * SIZE)
    server.answers = [whole]
    assert fetched(server) == CONTENT
    assert server.ranges == [f'bytes={SIZE}-', None]


def test_nothing_behind_nothing(server: Server) -> None:
    server.answers = [answer('416 Range Not Satisfiable')]
    refused(server, '416')


# ---------------------------------------------------------------- what the answer is
@pytest.mark.parametrize('encoding', ['gzip', 'br', 'identity, gzip', 'x' * 100])
def test_encoded_answers(encoding: str, server: Server, folder: Path) -> None:
    server.answers = [answer('200 OK', gzip.compress(CONTENT), f'Content-Encoding: {encoding}')]
    refused(server, 'compressed response')
    assert 'Accept-Encoding: identity' in server.requests[0]
    assert kept(folder) == []


@pytest.mark.parametrize('code', ['204 No Content', '203 Other', '400 Bad', '401 No', '403 No', '404 No', '410 Gone'])
def test_answers_that_are_final(code: str, server: Server) -> None:
    server.answers = [answer(code)]
    refused(server, code[:3])
    assert len(server.requests) == 1


@pytest.mark.parametrize('code', ['408 Late', '429 Too Many', '500 Broken', '503 Busy'])
def test_answers_that_may_change(code: str, server: Server) -> None:
    server.answers = [answer(code), whole]
    assert fetched(server) == CONTENT


@pytest.mark.parametrize('junk', [b'', b'\0\1\2', b'SSH-2.0\r\n', b'HTTP/1.1 a\r\n\r\n', b'HTTP/1.1 200 OK\r\n' * 200])
def test_answers_that_are_not_http(junk: bytes, server: Server) -> None:
    server.answers = [lambda connection, _: connection.sendall(junk), whole]
    assert fetched(server) == CONTENT


def test_a_wrong_hash_leaves_the_old_file_and_no_part(server: Server, folder: Path) -> None:
    (folder / 'a.pth').write_bytes(b'old')
    server.answers = [answer('200 OK', CONTENT[:-1] + b'x', f'Content-Length: {SIZE}')]
    refused(server, 'has SHA-256')
    assert (folder / 'a.pth').read_bytes() == b'old'
    assert kept(folder) == ['a.pth']


# ---------------------------------------------------------------- redirections
@pytest.mark.parametrize(
    'target', ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'data:,x', 'gopher://x/', 'javascript:x', 'FILE:/etc/passwd']
)
def test_redirections_to_other_schemes(target: str, server: Server, folder: Path) -> None:
    server.answers = [answer('302 Found', b'', f'Location: {target}')]
    refused(server, '(redirects|says 302)')
    assert kept(folder) == []


def test_redirections_are_followed_without_reading_their_bodies(server: Server) -> None:
    def endless(connection: socket.socket, request: str) -> None:
        answer('302 Found', b'', 'Location: /else/where?x=1')(connection, request)
        while True:
            connection.sendall(CONTENT)

    server.answers = [endless, whole]
    assert fetched(server, Limits(patience=0.0, timeout=20.0)) == CONTENT
    assert server.requests[1].startswith('GET /else/where?x=1 ')


def test_a_loop_of_redirections_ends(server: Server) -> None:
    server.answers = [answer('302 Found', b'', 'Location: /models/a.pth')]
    refused(server, '302')
    assert len(server.requests) < 20


# ---------------------------------------------------------------- names
@pytest.mark.parametrize(
    'path',
    ['', '/', '/models/', '/..', '/models/..', '/.', '/%2e%2e', '/..%2f..%2fetc%2fpasswd', '/a%2fb.pth', '/a%00.pth',
     '/a%0a.pth', '/a%1b[31m.pth', '/.hidden', '/' + 'a' * 201, '/' + '%c3%a4' * 101, '/a%5cb', '/%ff.pth',
     '?x=/a.pth'],
)  # fmt: skip
@pytest.mark.parametrize('host', ['http://127.0.0.1:1', 'file://'])
def test_addresses_without_a_usable_name(host: str, path: str, tmp_path: Path, folder: Path) -> None:
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(CheckpointError, match=r'name of a file|is not an address'):
        download(Weights(host + path, SHA256), limits=FAST)
    assert sorted(tmp_path.rglob('*')) == before


def test_names_that_are_usable(server: Server) -> None:
    server.answers = [whole]
    base = server.url.removesuffix('/models/a.pth')
    for path, name in {
        '/x/b%20c.pth?download=true&name=/etc/passwd': 'b c.pth',
        '/%C3%A4.pth': 'ä.pth',
        '/ü.pth': 'ü.pth',
        '/' + 'a' * 200: 'a' * 200,
        '/a%2520.pth': 'a%20.pth',
    }.items():
        assert download(Weights(base + path, SHA256), limits=FAST).name == name
    assert 'GET /%C3%BC.pth ' in ''.join(server.requests)


@pytest.mark.parametrize(
    'url',
    ['ftp://h/a.pth', 'data:,a.pth', 'http:///a.pth', 'http://h:port/a.pth', 'http://[::1/a.pth', 'file://host/a.pth'],
)
def test_other_addresses(url: str) -> None:
    with pytest.raises(CheckpointError):
        download(Weights(url, SHA256), limits=FAST)


@pytest.mark.parametrize('digits', ['', '1234567', 'x' * 64, '0' * 65, 'é' * 8])
def test_hashes_that_check_nothing(digits: str, server: Server) -> None:
    with pytest.raises(CheckpointError, match='SHA-256'):
        download(Weights(server.url, digits))
    assert server.requests == []


def test_secrets_of_an_address_are_not_repeated(server: Server) -> None:
    server.answers = [answer('404 No')]
    with pytest.raises(CheckpointError) as caught:
        download(Weights(f'{server.url}?token=secret#secret', SHA256), limits=FAST)
    assert 'secret' not in str(caught.value)
    assert server.url in str(caught.value)


# ---------------------------------------------------------------- what lies in the folder
@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / 'victim'
    path.write_bytes(b'precious')
    return path


@pytest.mark.parametrize('name', ['a.pth.part', '.a.pth.lock'])
@pytest.mark.parametrize('kind', ['soft', 'hard'])
def test_a_link_in_the_place_of_the_part_or_the_lock(
    kind: str, name: str, server: Server, folder: Path, victim: Path
) -> None:
    server.answers = [whole]
    if kind == 'soft':
        (folder / name).symlink_to(victim)
    else:
        os.link(victim, folder / name)
    with suppress(CheckpointError):  # a lock that is a link may be refused
        assert fetched(server) == CONTENT
    assert victim.read_bytes() == b'precious'


def test_a_link_that_appears_meanwhile(folder: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / 'a.part').symlink_to(victim)
    monkeypatch.setattr(part_file, 'size_of', lambda _: 0)
    with pytest.raises(OSError, match=r'a\.part'), part_file.append_to(folder / 'a.part', 0):
        pass
    assert victim.read_bytes() == b'precious'


def test_other_things_in_the_place_of_the_part(server: Server, folder: Path) -> None:
    server.answers = [whole]
    os.mkfifo(folder / 'a.pth.part')
    assert fetched(server) == CONTENT
    (folder / 'a.pth').unlink()
    (folder / 'a.pth.part').mkdir()
    refused(server, r'a\.pth\.part is a folder')


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'dangling', 'loop'])
def test_other_things_in_the_place_of_the_file(kind: str, server: Server, folder: Path, tmp_path: Path) -> None:
    server.answers = [whole]
    target = folder / 'a.pth'
    if kind == 'folder':
        target.mkdir()
    elif kind == 'pipe':
        os.mkfifo(target)
    else:
        target.symlink_to(target if kind == 'loop' else tmp_path / 'nothing')
    refused(server, r'a\.pth')
    assert server.requests == []
    assert not (tmp_path / 'nothing').exists()


def test_a_link_to_the_file_is_used_and_a_wrong_one_replaced(server: Server, folder: Path, victim: Path) -> None:
    server.answers = [whole]
    (folder / 'a.pth').symlink_to(victim)
    assert fetched(server) == CONTENT
    assert victim.read_bytes() == b'precious'
    assert not (folder / 'a.pth').is_symlink()
    victim.write_bytes(CONTENT)
    (folder / 'a.pth').unlink()
    (folder / 'a.pth').symlink_to(victim)
    assert fetched(server) == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'nothing', 'too large'])
def test_a_mirror_without_the_file(kind: str, folder: Path, tmp_path: Path) -> None:
    mirror = tmp_path / 'mirror'
    mirror.mkdir()
    if kind == 'pipe':
        os.mkfifo(mirror / 'a.pth')
    elif kind == 'folder':
        (mirror / 'a.pth').mkdir()
    elif kind == 'too large':
        (mirror / 'a.pth').write_bytes(CONTENT)
    with pytest.raises(CheckpointError, match=str(mirror / 'a.pth')):
        download(Weights('http://127.0.0.1:1/a.pth', SHA256), mirror=str(mirror), limits=Limits(max_bytes=10))
    assert 'a.pth' not in kept(folder)


def test_a_full_disk_names_the_part_and_keeps_it(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [whole]
    taken: list[int] = []
    write = part_file.write_all

    def fills(file: object, content: bytes) -> None:
        if taken:
            raise OSError(28, 'No space left on device')
        taken.append(len(content))
        write(file, content[:100])  # type: ignore[arg-type]
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(part_file, 'write_all', fills)
    with pytest.raises(DiskFullError, match=r'a\.pth\.part.*disk is full'):
        fetched(server)
    assert (folder / 'a.pth.part').read_bytes() == CONTENT[:100]
    monkeypatch.setattr(part_file, 'write_all', write)
    assert fetched(server) == CONTENT
    assert server.ranges == [None, 'bytes=100-']


@pytest.mark.skipif(os.geteuid() == 0, reason='root writes everywhere')
def test_a_folder_that_cannot_be_written(server: Server, folder: Path) -> None:
    server.answers = [whole]
    folder.chmod(0o500)
    refused(server, str(folder))


def test_a_folder_that_cannot_be_made(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [whole]
    (folder / 'file').write_bytes(b'')
    monkeypatch.setenv('GRAFT_WEIGHTS', str(folder / 'file' / 'below'))
    refused(server, 'below')


def test_processes_at_once_download_once(server: Server) -> None:
    server.answers = [cut(1000), whole]
    with ProcessPoolExecutor(3, get_context('fork')) as pool:
        paths = list(pool.map(_download, [server.url] * 3))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.ranges == [None, 'bytes=1000-']


def _download(url: str) -> Path:
    return download(Weights(url, SHA256), limits=Limits(patience=0.0))
