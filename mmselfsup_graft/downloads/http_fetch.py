"""One file over HTTP, into a part that later attempts continue; bounded in size and in time."""

import http.client
import re
import socket
import ssl
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.utils.progress import Progress

from .part_file import append_to, size_of

_PIECE = 1 << 16
_TRY_AGAIN = (408, 425, 429)  # beside 5xx: the server asks for patience
_CUT = (OSError, http.client.HTTPException, ValueError)  # ValueError: http.client's about a malformed chunk
_CONTENT_RANGE = re.compile(r'bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)')


@dataclass(frozen=True)
class Limits:
    """How much a server may ask of us.

    Attributes:
        attempts: How often a connection that was cut is opened again.
        patience: Seconds before the second attempt; doubled before each further one.
        timeout: Seconds after which a connection that brings nothing, or too little, is cut.
        min_rate: Bytes per second, on average over ``timeout``, that are enough. The head of an answer counts as
            nothing, so it must be there within that time.
        max_bytes: Size of the largest file that is taken.
    """

    attempts: int = 5
    patience: float = 1.0
    timeout: float = 60.0
    min_rate: float = 1024.0
    max_bytes: int = 32 << 30


class _Cut(Exception):
    """The connection ended before the file did; what arrived is kept."""


class _Other(_Cut):
    """The server does not continue where we stopped; the next attempt begins anew."""


def shown(url: str) -> str:
    """An address for messages: without user, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))


def fetch(url: str, part: Path, limits: Limits, is_whole: Callable[[], bool]) -> bool:
    """Complete ``part``, from where an earlier attempt or call was cut.

    Args:
        url: Where the file lies, ``http(s)://``.
        part: The file to write.
        limits: How much the server may ask of us.
        is_whole: Asked where the server does not say how long the file is: whether ``part`` is what was wanted. Where
            the server does say, the caller must find out.

    Returns:
        Whether the server said how long the file is and the part has that length, or ``is_whole`` was true.

    Raises:
        CheckpointError: The server refuses, misbehaves, or no attempt reached the end. What arrived is kept.
        DiskFullError: The disk is full. What arrived is kept.
    """
    reason = ''
    for attempt in range(limits.attempts):
        if attempt:
            time.sleep(limits.patience * 2 ** (attempt - 1))
        try:
            is_complete = _receive(url, part, limits)
            if is_complete or is_whole():
                return True
            if is_complete is None:
                raise _Other('the server has no more bytes, but the partial file is not the expected one')
            if attempt == limits.attempts - 1:
                return False
            reason = 'the connection ended before the file did'
        except _Other as error:
            part.unlink(missing_ok=True)
            reason = str(error)
        except _Cut as error:
            reason = str(error)
    kept = size_of(part)
    have = f'; {kept / 2**20:.1f} MiB are kept, run the command again to continue' if kept else ''
    raise CheckpointError(f'{shown(url)} could not be downloaded in {limits.attempts} attempts: {reason}{have}')


def _receive(url: str, part: Path, limits: Limits) -> bool | None:
    """One connection.

    Returns:
        True if we have as much as the server says that there is, False if it does not say, None if it has nothing
        beyond what we had.
    """
    have = size_of(part)
    with _Watch(limits) as watch:
        response = _open(url, have, watch, limits)
        if response is None:
            return None
        with response:
            have, total = _place(response, have, url)
            if (total or have) > limits.max_bytes:
                raise _too_large(url, part, limits)
            progress = Progress(f'downloading {part.stem}', total or 1)
            with append_to(part, have) as write:
                while piece := _read(response, watch):
                    have += len(piece)
                    if have > limits.max_bytes:
                        raise _too_large(url, part, limits)
                    write(piece)
                    if total:
                        progress.step(len(piece))
        watch.check()
    if total is not None and have < total:
        raise _Cut('the connection was cut')
    return total is not None


def _open(url: str, have: int, watch: '_Watch', limits: Limits) -> Any:
    """The answer to a request for what is missing; None if the server says that nothing is."""
    headers = {'Accept-Encoding': 'identity', **({'Range': f'bytes={have}-'} if have else {})}
    try:
        request = Request(quote(url, safe=string.punctuation), headers=headers)
        with watch.cutting():
            return _opener(watch).open(request, timeout=limits.timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return None
        said = f'the server says {error.code} {" ".join(str(error.reason).split())[:200]}'
        if error.code >= 500 or error.code in _TRY_AGAIN:
            raise _Cut(said) from error
        raise CheckpointError(f'{shown(url)}: {said}; check the address') from error


def _place(response: Any, have: int, url: str) -> tuple[int, int | None]:
    """Where in the file an answer begins, and how long the file is, if the server says so."""
    encoding = response.headers.get('Content-Encoding', 'identity')
    if encoding.strip().lower() != 'identity':
        raise CheckpointError(
            f'{shown(url)}: the server sent a compressed response ({encoding[:40]!r}), expected plain bytes'
        )
    length = response.headers.get('Content-Length', '').strip()
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
    if response.status == 200:
        return 0, size  # a server that cannot resume sends all of it
    if response.status != 206:
        raise CheckpointError(f'{shown(url)}: the server says {response.status}, expected 200 or 206')
    found = _CONTENT_RANGE.fullmatch(response.headers.get('Content-Range', '').strip())
    if found is None or int(found[1]) != have:
        raise _Other('the server sent another part than the one that was asked for')
    if found[2] != '*':
        return have, int(found[2])
    return have, None if size is None else have + size


def _read(response: Any, watch: '_Watch') -> bytes:
    """What has arrived, at most a piece: a longer wait would lose it where the connection breaks meanwhile."""
    with watch.cutting():
        piece = response.read1(_PIECE)
    watch.count(len(piece))
    return piece


def _too_large(url: str, part: Path, limits: Limits) -> CheckpointError:
    part.unlink(missing_ok=True)
    return CheckpointError(
        f'{shown(url)} is larger than the limit of {limits.max_bytes / 2**30:.2f} GiB; check the address'
    )


# ---------------------------------------------------------------- connections
class _Watch:
    """Cuts a connection that brings less than ``timeout * min_rate`` bytes in ``timeout`` seconds.

    A timeout of the socket alone would let a server send a byte now and then for ever.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.is_slow = False
        self._received = 0
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> '_Watch':
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def follow(self, connection: socket.socket) -> None:
        """Watch this connection from now on; after a redirection it is another one."""
        self._socket = connection
        if self.is_slow:
            self._shut()

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """Turn what the network raises into :class:`_Cut`."""
        try:
            yield
        except HTTPError:
            raise
        except _CUT as error:
            self.check()
            reason = getattr(error, 'reason', error) if isinstance(error, URLError) else error
            said = ' '.join(str(reason).split())[:200] or type(error).__name__
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise CheckpointError(f'the certificate of the server cannot be trusted: {said}') from error
            raise _Cut(said) from error

    def check(self) -> None:
        """Raise if the connection was cut because it was too slow."""
        if self.is_slow:
            raise _Cut(f'fewer than {self.limits.min_rate:g} bytes per second in {self.limits.timeout:g} s')

    def count(self, size: int) -> None:
        """Bytes have arrived."""
        self._received += size

    def _run(self) -> None:
        before = 0
        while not self._ended.wait(self.limits.timeout):
            if self._received - before < self.limits.min_rate * self.limits.timeout:
                self.is_slow = True
                self._shut()
                return
            before = self._received

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # of the base class: SSLSocket's own would take the reader's state away
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _watched(handler: type, watch: _Watch) -> Any:
    """A handler of urllib whose connections are watched."""

    class Handler(handler):  # type: ignore[misc]
        def do_open(self, http_class: Any, request: Request, **options: Any) -> Any:
            class Connection(http_class):
                def connect(self) -> None:
                    super().connect()
                    watch.follow(self.sock)

            return super().do_open(Connection, request, **options)

    return Handler()


class _Redirects(HTTPRedirectHandler):
    """Follow redirections to HTTP alone, and never from an encrypted connection to an open one."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        before, scheme = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if scheme != 'https' and scheme != before:
            raise CheckpointError(
                f'{shown(req.full_url)}: the server redirects from {before} to {scheme}, which is not followed'
            )
        fp.close()  # urllib would read all of the answer into memory, however much is sent
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(watch: _Watch) -> OpenerDirector:
    """One that knows HTTP and nothing else: no files, no FTP, no data in addresses."""
    opener = OpenerDirector()
    plain = (ProxyHandler(), UnknownHandler(), HTTPDefaultErrorHandler(), _Redirects(), HTTPErrorProcessor())
    for handler in (*plain, _watched(HTTPHandler, watch), _watched(HTTPSHandler, watch)):
        opener.add_handler(handler)
    return opener
