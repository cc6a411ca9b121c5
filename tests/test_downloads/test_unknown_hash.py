"""Files whose hash nobody states, or only its first digits: accepted once, kept, compared later. Every entry's way."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from hostile_server import Server, answer
from test_tools.tiny_runs import call_tool

from mmselfsup_graft.downloads import published
from mmselfsup_graft.downloads.download import Weights, download
from mmselfsup_graft.downloads.http_fetch import Limits
from mmselfsup_graft.downloads.published import PublishedFile
from mmselfsup_graft.downloads.resolve import get_published, resolve_zoo
from mmselfsup_graft.errors import CheckpointError, ConfigError, DataError

CONTENT = bytes(range(256)) * 8
OTHER = CONTENT[:-1] + b'!'
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FAST = Limits(attempts=2, patience=0.0)
Publish = Callable[..., PublishedFile]


def whole(content: bytes):  # type: ignore[no-untyped-def]
    return answer('200 OK', content, f'Content-Length: {len(content)}')


def test_it_must_be_accepted_once(publish: Publish, server: Server, folder: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    publish(CONTENT, sha256=0)
    with pytest.raises(CheckpointError, match=r'no hash of tiny .*download_weights\.py tiny --accept-unknown-hash'):
        resolve_zoo('zoo:tiny')
    assert server.requests == []
    path = get_published('tiny', accept_unknown=True)
    assert path.read_bytes() == CONTENT
    assert f'SHA-256 of tiny: {SHA256}' in capsys.readouterr().err
    lock = json.loads((folder / 'zoo-lock.json').read_text())
    assert lock == {'tiny.pth': {'sha256': SHA256, 'size': len(CONTENT), 'source': server.url.replace('a.', 'tiny.')}}
    assert resolve_zoo('zoo:tiny') == str(path)
    path.unlink()
    assert resolve_zoo('zoo:tiny') == str(path)  # downloaded again, and the same
    assert len(server.requests) == 2


@pytest.mark.parametrize('accept', [False, True])
def test_later_downloads_must_agree(accept: bool, publish: Publish, server: Server, folder: Path) -> None:
    publish(CONTENT, sha256=0)
    path = get_published('tiny', accept_unknown=True)
    path.write_bytes(b'damaged')
    server.answers = [whole(OTHER)]
    with pytest.raises(CheckpointError, match=rf'an earlier download had {SHA256} .*zoo-lock\.json'):
        get_published('tiny', accept_unknown=accept)
    assert path.read_bytes() == b'damaged'
    assert not (folder / 'tiny.pth.part').exists()
    server.answers = [whole(CONTENT)]
    assert get_published('tiny').read_bytes() == CONTENT


@pytest.mark.parametrize('digits', [{'sha256': 8}, {'sha256': 0, 'md5': 6}])
def test_first_digits_are_compared_and_the_rest_is_kept(
    digits: dict[str, int], publish: Publish, server: Server, folder: Path
) -> None:
    entry = publish(CONTENT, **digits)
    server.answers = [whole(OTHER)]
    with pytest.raises(CheckpointError, match=r'has (SHA-256|MD5) \w+, expected'):
        resolve_zoo('zoo:tiny')
    assert not (folder / 'zoo-lock.json').exists()
    server.answers = [whole(CONTENT)]
    resolve_zoo('zoo:tiny')
    assert json.loads((folder / 'zoo-lock.json').read_text())['tiny.pth']['sha256'] == SHA256
    (folder / 'tiny.pth').unlink()
    server.answers = [whole(OTHER)]
    forged = replace(entry, sha256=None, md5=None)
    with pytest.raises(CheckpointError, match='an earlier download had'):
        download(forged.weights)


def test_a_whole_hash_needs_no_lock_file(publish: Publish, folder: Path) -> None:
    publish(CONTENT)
    resolve_zoo('zoo:tiny')
    assert not (folder / 'zoo-lock.json').exists()


def test_a_file_that_was_put_there(publish: Publish, server: Server, folder: Path) -> None:
    publish(CONTENT, sha256=0)
    (folder / 'tiny.pth').write_bytes(CONTENT)
    with pytest.raises(CheckpointError, match=r'tiny\.pth is there, but no hash of tiny is published'):
        resolve_zoo('zoo:tiny')
    get_published('tiny', accept_unknown=True, offline=True)
    assert resolve_zoo('zoo:tiny', offline=True) == str(folder / 'tiny.pth')
    assert server.requests == []


def test_a_page_for_people(publish: Publish, server: Server, folder: Path, tmp_path: Path) -> None:
    publish(CONTENT, sha256=0, url=None)
    mine = tmp_path / 'from the browser.pth'
    mine.write_bytes(CONTENT)
    message = r'Get it from https://nowhere\.invalid/page with a browser.*tiny --file PATH --accept-unknown-hash'
    with pytest.raises(CheckpointError, match=message):
        resolve_zoo('zoo:tiny')
    with pytest.raises(CheckpointError, match=r'has no address .* tiny --file PATH'):
        get_published('tiny', accept_unknown=True)
    with pytest.raises(CheckpointError, match=r'tiny --accept-unknown-hash'):
        get_published('tiny', file=mine)
    with pytest.raises(CheckpointError, match=r'nothing\.pth does not exist; check the path'):
        get_published('tiny', accept_unknown=True, file=tmp_path / 'nothing.pth')
    assert get_published('tiny', accept_unknown=True, file=mine) == folder / 'tiny.pth'
    assert resolve_zoo('zoo:tiny', offline=True) == str(folder / 'tiny.pth')
    mine.write_bytes(OTHER)
    (folder / 'tiny.pth').unlink()
    with pytest.raises(CheckpointError, match='an earlier download had'):
        get_published('tiny', file=mine)
    assert server.requests == []


@pytest.mark.parametrize('content', [b'', b'  \n<!DOCTYPE html><html>Sign in</html>'])
def test_what_cannot_be_the_file(content: bytes, publish: Publish, folder: Path) -> None:
    publish(content, sha256=0)
    with pytest.raises(CheckpointError, match=r'is empty|is a page for a browser'):
        get_published('tiny', accept_unknown=True)
    assert sorted(path.name for path in folder.glob('[!.]*')) == []


def test_a_server_that_does_not_say_how_long_it_is(publish: Publish, server: Server, folder: Path) -> None:
    entry = publish(CONTENT, sha256=0)
    server.answers = [answer('200 OK', CONTENT)]
    with pytest.raises(CheckpointError, match='does not say how long'):
        download(entry.weights, limits=FAST, accept_unknown=True)
    assert sorted(path.name for path in folder.glob('[!.]*')) == []


def test_a_cut_connection_is_resumed_but_not_the_part_of_an_earlier_call(
    publish: Publish, server: Server, folder: Path
) -> None:
    entry = publish(CONTENT, sha256=0)
    (folder / 'tiny.pth.part').write_bytes(b'of something else')
    rest = answer(
        '206 Partial Content',
        CONTENT[100:],
        f'Content-Length: {len(CONTENT) - 100}',
        f'Content-Range: bytes 100-{len(CONTENT) - 1}/{len(CONTENT)}',
    )
    server.answers = [answer('200 OK', CONTENT[:100], f'Content-Length: {len(CONTENT)}'), rest]
    assert download(entry.weights, limits=FAST, accept_unknown=True).read_bytes() == CONTENT
    assert server.ranges == [None, 'bytes=100-']


@pytest.mark.parametrize('text', ['[]', '{"tiny.pth": {"sha256": "abc"}}', '{"tiny.pth": 3}', '{'])
def test_a_damaged_lock_file(text: str, publish: Publish, server: Server, folder: Path) -> None:
    publish(CONTENT, sha256=0)
    (folder / 'zoo-lock.json').write_text(text)
    with pytest.raises((CheckpointError, DataError), match=r'zoo-lock\.json'):
        get_published('tiny', accept_unknown=True)
    assert server.requests == []


def test_files_at_once_all_stay_in_the_lock_file(server: Server, folder: Path) -> None:
    server.answers = [whole(CONTENT)]
    wanted = [Weights(server.url.replace('a.pth', f'{number}.pth'), None) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: download(each, accept_unknown=True), wanted))
    assert len(json.loads((folder / 'zoo-lock.json').read_text())) == 8


@pytest.mark.parametrize('sha256', [8, 64])
def test_processes_at_once_download_once(sha256: int, publish: Publish, server: Server) -> None:
    publish(CONTENT, sha256=sha256)
    with ProcessPoolExecutor(3, get_context('fork')) as pool:
        assert len(set(pool.map(resolve_zoo, ['zoo:tiny'] * 3))) == 1
    assert len(server.requests) == 1


def test_mirror_and_offline_mode(
    publish: Publish, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(CONTENT, url='https://nowhere.invalid/tiny.pth')
    monkeypatch.setenv('GRAFT_OFFLINE', '1')
    with pytest.raises(CheckpointError, match=r'offline mode does not allow downloading https://nowhere.*GRAFT_MIRROR'):
        resolve_zoo('zoo:tiny')
    monkeypatch.setenv('GRAFT_MIRROR', server.url.removesuffix('/a.pth'))
    with pytest.raises(CheckpointError, match='offline mode does not allow downloading http://127'):
        resolve_zoo('zoo:tiny')
    monkeypatch.setenv('GRAFT_OFFLINE', '0')
    resolve_zoo('zoo:tiny')
    assert server.requests[0].startswith('GET /models/tiny.pth ')


def test_paths_are_left_alone(folder: Path) -> None:
    for path in ('a.pth', 'folder/zoo:a', '', 'ZOO:a'):
        assert resolve_zoo(path) == path
    with pytest.raises(ConfigError, match='the zoo has no file'):
        resolve_zoo('zoo:')


def test_the_tool(publish: Publish, folder: Path, tmp_path: Path) -> None:
    publish(CONTENT, sha256=0)
    assert 'no hash of tiny' in call_tool('download_weights', 'zoo:tiny').error()
    done = call_tool('download_weights', 'tiny', '--accept-unknown-hash')
    assert (done.out.strip(), done.code) == (str(folder / 'tiny.pth'), 0)
    assert SHA256 in done.err
    assert call_tool('download_weights', 'tiny', '--offline').code == 0
    (tmp_path / 'mine').write_bytes(CONTENT)
    elsewhere = ('--folder', tmp_path / 'else', '--file', tmp_path / 'mine')
    assert 'no hash of tiny' in call_tool('download_weights', 'tiny', *elsewhere).error()
    assert call_tool('download_weights', 'tiny', *elsewhere, '--accept-unknown-hash').code == 0
    assert call_tool('download_weights', 'tiny', 'tiny', '--file', 'a').code == 2
    listed = call_tool('download_weights', '--list', 'tiny').out
    for words in ('zoo:tiny', 'license: CC0-1.0', 'size not stated', 'hash not stated'):
        assert words in listed


def test_the_way_of_every_entry(
    real: dict[str, PublishedFile], server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same kinds of hashes and addresses as in the data, the content and the host of the test's server."""
    server.answers = [whole(CONTENT)]
    host = server.url.removesuffix('/a.pth')
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    (tmp_path / 'mine.bin').write_bytes(CONTENT)
    moved = {
        name: replace(
            file,
            url=file.url and f'{host}/{file.url.rpartition("/")[2]}',
            sha256=file.sha256 and SHA256[: len(file.sha256)],
            md5=file.md5 and md5[: len(file.md5)],
        )
        for name, file in real.items()
    }
    monkeypatch.setattr(published, 'published_files', lambda: moved)
    for name, file in moved.items():
        known = bool(file.sha256 or file.md5)
        if not known:
            with pytest.raises(CheckpointError, match=f'no hash of {name} is published'):
                resolve_zoo(f'zoo:{name}')
        given = None if file.url else tmp_path / 'mine.bin'
        path = get_published(name, accept_unknown=not known, file=given)
        assert path.read_bytes() == CONTENT
        assert resolve_zoo(f'zoo:{name}', offline=True) == str(path)
    assert len(server.requests) == sum(file.url is not None for file in real.values())
    locked = json.loads((folder / 'zoo-lock.json').read_text())
    assert set(locked) == {f.weights.filename for f in real.values() if len(f.sha256 or '') < 64}
