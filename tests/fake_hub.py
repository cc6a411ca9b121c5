"""A hub in this process: the HTTP interface that huggingface_hub uses to create, upload to and download a repository.

Small files travel in the commit, ``.safetensors`` files by the LFS protocol, as on the real hub.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class FakeHub:
    """The state of the hub.

    Attributes:
        repositories: Name -> file -> content.
        private: Names of repositories that were created as private ones.
        blobs: SHA-256 -> content of LFS files.
        asked: Method and path of every request.
        stated: File -> size that the hub states although it is another one.
        tokens: Authorization header of every request.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Files] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.stated: dict[str, int] = {}
        self.tokens: list[str | None] = []
        self.url = ''

    def commit_of(self, name: str) -> str:
        """A hash that stands for the content of a repository."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(self.repositories[name].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, body: bytes = b'', **headers: str) -> None:
            self.send_response(status)
            length = headers.pop('content_length', str(len(body)))
            self.send_header('Content-Length', length)
            for key, value in headers.items():
                self.send_header(key.replace('_', '-'), value)
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(body)

        def say(self, content: Any, status: int = 200) -> None:
            self.answer(status, json.dumps(content).encode(), Content_Type='application/json')

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))

        def handle_any(self) -> None:
            path = self.path.partition('?')[0]
            hub.asked.append(f'{self.command} {path}')
            hub.tokens.append(self.headers.get('Authorization'))
            body = self.body()
            for pattern, method in _ROUTES:
                found = re.fullmatch(pattern, f'{self.command} {path}')
                if found:
                    getattr(self, method)(body, *found.groups())
                    return
            self.answer(404, b'{}')

        do_GET = do_HEAD = do_POST = do_PUT = handle_any

        def create(self, body: bytes) -> None:
            asked = json.loads(body)
            name = f'{asked.get("organization") or "me"}/{asked["name"]}'
            if name in hub.repositories:
                self.say({'url': f'{hub.url}/{name}'}, 409)
                return
            hub.repositories[name] = {}
            if asked.get('private'):
                hub.private.add(name)
            self.say({'url': f'{hub.url}/{name}', 'name': name})

        def check_card(self, _: bytes) -> None:
            self.say({'errors': [], 'warnings': []})

        def preupload(self, body: bytes, _: str) -> None:
            modes = [
                {'path': each['path'], 'uploadMode': 'lfs' if each['path'].endswith('.safetensors') else 'regular'}
                for each in json.loads(body)['files']
            ]
            self.say({'files': [{**mode, 'shouldIgnore': False} for mode in modes]})

        def batch(self, body: bytes, _: str) -> None:
            objects = [
                {**each, 'actions': {'upload': {'href': f'{hub.url}/blobs/{each["oid"]}'}}}
                for each in json.loads(body)['objects']
            ]
            self.say({'transfer': 'basic', 'objects': objects})

        def put_blob(self, body: bytes, oid: str) -> None:
            hub.blobs[oid] = body
            self.answer(200)

        def commit(self, body: bytes, name: str, _: str) -> None:
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry['value']
                if entry['key'] == 'file':
                    hub.repositories[name][value['path']] = base64.b64decode(value['content'])
                elif entry['key'] == 'lfsFile':
                    hub.repositories[name][value['path']] = hub.blobs[value['oid']]
            commit = hub.commit_of(name)
            self.say({'commitUrl': f'{hub.url}/{name}/commit/{commit}', 'commitOid': commit})

        def resolve(self, _: bytes, name: str, revision: str, path: str) -> None:
            if name not in hub.repositories:
                self.answer(404, b'{}', X_Error_Code='RepoNotFound')
                return
            commit = hub.commit_of(name)
            if revision not in ('main', commit):
                self.answer(404, b'{}', X_Error_Code='RevisionNotFound')
                return
            content = hub.repositories[name].get(path)
            if content is None:
                self.answer(404, b'{}', X_Error_Code='EntryNotFound', X_Repo_Commit=commit)
                return
            large = path.endswith('.safetensors')
            kind = hashlib.sha256 if large else hashlib.sha1
            size = hub.stated.get(path, len(content))
            headers = {'X_Repo_Commit': commit, 'ETag': f'"{kind(content).hexdigest()}"'}
            if large:
                headers |= {'X_Linked_Size': str(size), 'X_Linked_ETag': headers['ETag']}
            if self.command == 'HEAD':
                headers['content_length'] = str(size)
            self.answer(200, self.content_of(name, path), **headers)

        def content_of(self, name: str, path: str) -> bytes:
            return hub.repositories[name].get(f'{path} as sent', hub.repositories[name][path])

    return Handler


_NAME = r'([\w.-]+/[\w.-]+)'
_ROUTES = [
    (r'POST /api/repos/create', 'create'),
    (r'POST /api/validate-yaml', 'check_card'),
    (rf'POST /api/models/{_NAME}/preupload/[^/]+', 'preupload'),
    (rf'POST /{_NAME}\.git/info/lfs/objects/batch', 'batch'),
    (r'PUT /blobs/(\w+)', 'put_blob'),
    (rf'POST /api/models/{_NAME}/commit/([^/]+)', 'commit'),
    (rf'(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)', 'resolve'),
]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub that answers on this machine, within the block."""
    hub = FakeHub()
    server = ThreadingHTTPServer(('127.0.0.1', 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f'http://127.0.0.1:{server.server_address[1]}'
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
