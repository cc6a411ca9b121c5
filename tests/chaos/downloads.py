"""Downloads of weights from a server that lies, stalls and leads elsewhere, killed in the middle and run again."""

import os
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from hostile_server import CONTENT, SHA256, SIZE, Answer, Server, answer, begin_of, whole

from mmselfsup_graft.cli.running import run_tool
from mmselfsup_graft.downloads.download import Weights, download
from mmselfsup_graft.downloads.http_fetch import Limits

from .children import Ended, Kill, Measure, measured, run
from .scenario import Failure, Scenario

_HASTY = Limits(attempts=3, patience=0.0, timeout=0.5, min_rate=SIZE, max_bytes=4 * SIZE)
_PATIENT = Limits(attempts=3, patience=0.0, timeout=60.0, min_rate=1.0, max_bytes=4 * SIZE)
_OLD = b'another file of this name'


class HostileDownload(Scenario):
    """Answers that are drawn, then perhaps good ones; perhaps a kill. Then a good server.

    Under its name the file is right or, as before, not there or another one. Beside it there is a part and a lock at
    most, and nothing changes outside of the folder. The good server leads to the file, whatever was left.
    """

    name = 'download, hostile server'

    def prepare(self, folder: Path) -> None:
        """Download once, undisturbed."""
        server = Server()
        server.answers = [whole]
        try:
            work = (fetch_main, server.url, folder / 'weights', _PATIENT)
            self.measure: Measure = measured(*work, log=folder / 'whole.log', folder=folder / 'weights')
        finally:
            server.close()

    def round(self, folder: Path, draw: random.Random) -> str:
        """One or two downloads from the hostile server, one from a good one."""
        place, outside = folder / 'weights', folder / 'outside'
        outside.write_bytes(b'precious')
        place.mkdir()
        target, part = place / 'a.pth', place / 'a.pth.part'
        before = draw.choice([None, None, _OLD])
        if before is not None:
            target.write_bytes(before)
        _put_in_the_way(part, outside, draw)
        server = Server()
        try:
            for _ in range(draw.randint(1, 2)):
                kind = draw.choice(list(KINDS))
                kill = self.measure.kill(draw) if draw.random() < 0.4 else None
                server.answers = _answers(kind, draw)
                ended = _fetch(server, place, _HASTY, folder / 'hostile.log', kill)
                outcome = _outcome(ended, f'{kind}, {kill}')
                _check(place, outside, before, outcome == 'the file', f'{kind}, {kill}, {outcome}')
                if outcome == 'the file':
                    break
            server.answers = [whole]
            again = _fetch(server, place, _PATIENT, folder / 'again.log')
        finally:
            server.close()
        if again.code != 0:
            raise Failure(f'{kind}, {kill}, {outcome}: run again it ended with {again.code}: {again.text[-2000:]}')
        _check(place, outside, before, True, f'{kind}, {kill}, {outcome}, run again')
        return f'{kind}: {outcome}'


def fetch_main(url: str, folder: Path, limits: Limits) -> None:
    """A download, in a process of its own."""
    for name in [each for each in os.environ if each.lower().endswith('_proxy') or each.startswith('GRAFT_')]:
        del os.environ[name]
    run_tool(lambda _: print(download(Weights(url, SHA256), folder, limits=limits)))


def _fetch(server: Server, place: Path, limits: Limits, log: Path, kill: Kill | None = None) -> Ended:
    log.unlink(missing_ok=True)  # that of the download before
    return run(fetch_main, server.url, place, limits, log=log, kill=kill, folder=place)


def _outcome(ended: Ended, what: str) -> str:
    if ended.killed:
        return 'killed'
    if ended.code == 0:
        return 'the file'
    if ended.error is None:
        raise Failure(f'{what}: ended with {ended.code}, not in one line: {ended.text[-2000:]}')
    return 'one line'


def _check(place: Path, outside: Path, before: bytes | None, is_done: bool, what: str) -> None:
    """What must hold after every process."""
    target = place / 'a.pth'
    found = target.read_bytes() if target.is_file() else None
    if found != CONTENT and (is_done or found != before):
        size = 'no file' if found is None else f'{len(found)} bytes'
        raise Failure(f'{what}: under the final name there is {size} of wrong content')
    names = {path.name for path in place.iterdir()}
    allowed = {'a.pth', '.a.pth.lock'} | (set() if is_done else {'a.pth.part'})
    if not names <= allowed:
        raise Failure(f'{what}: the folder holds {sorted(names - allowed)}')
    part = place / 'a.pth.part'
    if part.is_file() and part.stat().st_size > _HASTY.max_bytes:
        raise Failure(f'{what}: the part has {part.stat().st_size} bytes')
    beside = {path.name for path in place.parent.iterdir()} - {'weights', 'outside', 'hostile.log', 'again.log'}
    if outside.read_bytes() != b'precious' or beside:
        raise Failure(f'{what}: outside of the folder something changed: {sorted(beside)}')


def _put_in_the_way(part: Path, outside: Path, draw: random.Random) -> None:
    """Something that lies where the part will be written, or nothing."""
    kind = draw.choice(['nothing', 'nothing', 'soft link', 'hard link', 'junk'])
    if kind == 'soft link':
        part.symlink_to(outside)
    elif kind == 'hard link':
        os.link(outside, part)
    elif kind == 'junk':
        part.write_bytes(draw.randbytes(draw.randint(1, 2 * SIZE)))


# ---------------------------------------------------------------- answers
def _answers(kind: str, draw: random.Random) -> list[Answer]:
    """One to three of a kind, then good ones; or that kind for ever."""
    hostile = [KINDS[kind](draw) for _ in range(draw.randint(1, 3))]
    return [*hostile, whole] if draw.random() < 0.5 else hostile


def _part(request: str, *headers: str, length: int | None = None, content: bytes = CONTENT) -> bytes:
    """The answer of a good server, of another content or length."""
    start = min(begin_of(request), SIZE)
    length = len(content) - start if length is None else length
    status = '206 Partial Content' if start else '200 OK'
    lines = [f'HTTP/1.1 {status}', 'Connection: close', f'Content-Length: {length}', *headers]
    lines += [f'Content-Range: bytes {start}-{len(content) - 1}/{len(content)}'] if start else []
    return '\r\n'.join(lines).encode() + b'\r\n\r\n' + content[start:]


def _dropped(draw: random.Random) -> Answer:
    """A whole answer, closed or reset at a byte of its head or body."""
    share, reset = draw.random(), draw.random() < 0.5

    def drop(connection: socket.socket, request: str) -> None:
        everything = _part(request)
        connection.sendall(everything[: int(share * len(everything))])
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            connection.close()

    return drop


def _dripping(draw: random.Random) -> Answer:
    """Byte by byte from some byte on, for as long as the client listens."""
    share, pause = draw.random() ** 2, draw.uniform(0.001, 0.1)

    def drip(connection: socket.socket, request: str) -> None:
        everything = _part(request)
        begin = int(share * len(everything))
        connection.sendall(everything[:begin])
        for number in range(begin, len(everything)):
            time.sleep(pause)
            connection.sendall(everything[number : number + 1])

    return drip


def _misjudged(draw: random.Random) -> Answer:
    """Another length than it has."""
    length = draw.choice([0, draw.randint(1, SIZE), draw.randint(SIZE + 1, 3 * SIZE), 1 << 60, -draw.randint(1, SIZE)])
    return lambda connection, request: connection.sendall(_part(request, length=length))


def _wrong(draw: random.Random) -> Answer:
    """Other bytes, one or all, perhaps more or fewer than there should be."""
    content = bytearray(CONTENT)
    content[draw.randrange(SIZE)] ^= 1 << draw.randrange(8)
    other = draw.choice([bytes(content), draw.randbytes(SIZE), CONTENT + b'x', CONTENT[: draw.randrange(1, SIZE)]])
    return lambda connection, request: connection.sendall(_part(request, content=other))


def _misplaced(draw: random.Random) -> Answer:
    """Another part than was asked for."""
    start = draw.randrange(1, SIZE)
    said = draw.choice([f'bytes {start}-{SIZE - 1}/{SIZE}', 'bytes */5', 'text', f'bytes 0-{SIZE - 1}/{SIZE}'])
    return answer('206 Partial Content', CONTENT[start:], f'Content-Range: {said}')


def _endless(draw: random.Random) -> Answer:
    """Never the end: of the body, of its chunks, or of the head."""
    head = b'HTTP/1.1 200 OK\r\nConnection: close\r\n'
    begin, piece = draw.choice(
        [
            (head + b'\r\n', CONTENT),
            (head + b'Transfer-Encoding: chunked\r\n\r\n', b'%x\r\n%b\r\n' % (SIZE, CONTENT)),
            (head, b'X-More: ' + b'x' * 1000 + b'\r\n'),
            (b'', b'HTTP/1.1 100 Continue\r\n\r\n' * 100),
        ]
    )

    def send(connection: socket.socket, request: str) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(piece)

    return send


def _elsewhere(draw: random.Random) -> Answer:
    """A redirection: to a file, another protocol, a closed port, the same server, or nowhere."""
    target = draw.choice(
        ['file:///etc/passwd', 'ftp://127.0.0.1/a.pth', 'http://127.0.0.1:1/a.pth', '/../../etc/a.pth', '/models/a.pth']
        + ['http://', 'http://[', '']
    )
    return answer(draw.choice(['301 Moved', '302 Found', '307 Other']), b'', f'Location: {target}')


def _refusing(draw: random.Random) -> Answer:
    """An error, or no HTTP at all."""
    if draw.random() < 0.3:
        junk = draw.randbytes(draw.randint(0, 2000))
        return lambda connection, _: connection.sendall(junk)
    codes = ['204 None', '400 Bad', '403 No', '404 No', '408 Late', '416 Range', '429 Many', '500 Broken', '503 Busy']
    return answer(draw.choice(codes), draw.randbytes(draw.randint(0, 2000)))


KINDS: dict[str, Callable[[random.Random], Answer]] = {
    'dropped': _dropped,
    'dripping': _dripping,
    'wrong length': _misjudged,
    'wrong bytes': _wrong,
    'wrong range': _misplaced,
    'endless': _endless,
    'elsewhere': _elsewhere,
    'refused': _refusing,
}
