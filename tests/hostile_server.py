"""A server of files on this machine that lies, stalls or leads elsewhere, as it is told."""

import hashlib
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

CONTENT = bytes(range(256)) * 256  # 64 KiB
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Answer = Callable[[socket.socket, str], None]


class Server:
    """Gives every connection to the next answer, which sends what it likes; the last one answers for ever."""

    def __init__(self) -> None:
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.listener.getsockname()[1]}/models/a.pth'

    @property
    def ranges(self) -> list[str | None]:
        found = [re.search(r'^Range: (.*)\r$', request, re.MULTILINE) for request in self.requests]
        return [match and match[1] for match in found]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b''
            while b'\r\n\r\n' not in request:
                piece = connection.recv(65536)
                if not piece:  # killed before it asked
                    return
                request += piece
            self.requests.append(request.decode())
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            answer(connection, request.decode())
            connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()


def answer(status: str, body: bytes = b'', *headers: str) -> Answer:
    """One that is always the same."""
    head = '\r\n'.join([f'HTTP/1.1 {status}', 'Connection: close', *headers])
    return lambda connection, _: connection.sendall(f'{head}\r\n\r\n'.encode() + body)


def whole(connection: socket.socket, request: str) -> None:
    """What a good server does."""
    start = begin_of(request)
    if not start:
        answer('200 OK', CONTENT, f'Content-Length: {SIZE}')(connection, request)
    elif start >= SIZE:
        answer('416 Range Not Satisfiable', b'', 'Content-Length: 0')(connection, request)
    else:
        headers = (f'Content-Length: {SIZE - start}', f'Content-Range: bytes {start}-{SIZE - 1}/{SIZE}')
        answer('206 Partial Content', CONTENT[start:], *headers)(connection, request)


def begin_of(request: str) -> int:
    """Where the part of the file begins that is asked for."""
    match = re.search(r'^Range: bytes=(\d+)-\r$', request, re.MULTILINE)
    return 0 if match is None else int(match[1])
