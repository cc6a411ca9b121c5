"""Downloading weights: resumed where it was cut, checked by hash, from a mirror, or not at all."""

import http.client
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlparse
from urllib.request import Request, url2pathname, urlopen

import torch
from filelock import FileLock

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.evaluation.progress import Progress

_PIECE = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_CUT = (URLError, http.client.HTTPException, ConnectionError, socket.timeout)


@dataclass(frozen=True)
class Weights:
    """A file of weights somewhere else.

    Args:
        url: Where it lies: ``http(s)://`` or ``file://``.
        sha256: Hash of its content, or the first digits of it (at least 8).
    """

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """Last part of the address."""
        return Path(unquote(urlparse(self.url).path)).name


def weights_folder() -> Path:
    """Where downloads are kept: ``GRAFT_WEIGHTS``, or a folder beside torch hub's."""
    return Path(os.environ.get('GRAFT_WEIGHTS') or Path(torch.hub.get_dir()) / 'mmselfsup_graft')


def download(
    weights: Weights,
    folder: str | os.PathLike | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
    attempts: int = 5,
    patience: float = 1.0,
) -> Path:
    """Get a file of weights, from the folder where downloads are kept if it is there.

    Args:
        weights: What is wanted.
        folder: Where downloads are kept; None is :func:`weights_folder`.
        mirror: Folder, or address of one, in which the file of the same name is looked for instead; None is the
            environment's ``GRAFT_MIRROR``, if set.
        offline: Never open a connection; None is whether the environment's ``GRAFT_OFFLINE`` is set to 1.
        attempts: How often a connection that was cut is opened again.
        patience: Seconds before the second attempt; doubled before each further one.

    Returns:
        The file, whose hash was checked.

    Raises:
        CheckpointError: If it cannot be had, or its content is not what was expected. What was downloaded so far is
            kept for the next call, except where its hash is wrong.
    """
    if len(weights.sha256) < 8:
        raise CheckpointError(
            f'{weights.url}: its SHA-256 is given with fewer than 8 digits; no file can be checked so'
        )
    target = Path(folder or weights_folder()) / weights.filename
    mirror = mirror if mirror is not None else os.environ.get('GRAFT_MIRROR') or None
    offline = os.environ.get('GRAFT_OFFLINE') == '1' if offline is None else offline
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f'.{target.name}.lock')):  # several processes may want it at once
        if not (target.is_file() and _matches(target, weights)):
            _get(weights, target, mirror, offline, attempts, patience)
    return target


def _get(weights: Weights, target: Path, mirror: str | None, offline: bool, attempts: int, patience: float) -> None:
    source = _in_mirror(mirror, weights.filename) if mirror else weights.url
    local = _local_path(source)
    if offline and local is None:
        raise CheckpointError(f'{target} is not there and offline mode forbids to download {source}; put it there')
    part = target.with_name(f'{target.name}.part')
    if local is not None:
        if not local.is_file():
            raise CheckpointError(f'{local} does not exist; check the mirror, or get {weights.url} some other way')
        shutil.copyfile(local, part)
    else:
        old = part.is_file()
        _fetch(source, part, attempts, patience)
        if old and not _matches(part, weights):  # the rest of another file; once more from the start
            part.unlink()
            _fetch(source, part, attempts, patience)
    if not _matches(part, weights):
        found = file_sha256(part)
        part.unlink()
        raise CheckpointError(
            f'{source} has SHA-256 {found[: len(weights.sha256)]}, expected {weights.sha256}; it was not kept, '
            'try again or get it some other way'
        )
    os.replace(part, target)


def _in_mirror(mirror: str, filename: str) -> str:
    local = _local_path(mirror)
    return str(local / filename) if local is not None else f'{mirror.rstrip("/")}/{quote(filename)}'


def _matches(path: Path, weights: Weights) -> bool:
    return file_sha256(path).startswith(weights.sha256.lower())


def _local_path(source: str) -> Path | None:
    parts = urlparse(source)
    if parts.scheme == 'file':
        return Path(url2pathname(parts.path))
    return None if parts.scheme in ('http', 'https') else Path(source)


def _fetch(url: str, part: Path, attempts: int, patience: float) -> None:
    """Complete ``part``, going on where an earlier attempt or call was cut."""
    reason = ''
    for attempt in range(attempts):
        if attempt:
            time.sleep(patience * 2 ** (attempt - 1))
        try:
            if _receive(url, part):
                return
            reason = 'the connection was cut'
        except HTTPError as error:
            if error.code == 416:  # nothing beyond what we have: the hash tells whether that is the file
                return
            if error.code < 500:
                raise CheckpointError(
                    f'{url}: the server says {error.code} {error.reason}; check the address'
                ) from error
            reason = f'the server says {error.code} {error.reason}'
        except _CUT as error:
            reason = str(getattr(error, 'reason', error)) or type(error).__name__
    have = f'; {part.stat().st_size / 2**20:.1f} MiB are kept, the same command goes on' if part.is_file() else ''
    raise CheckpointError(f'{url} could not be downloaded in {attempts} attempts: {reason}{have}')


def _receive(url: str, part: Path) -> bool:
    """One connection; whether the file is complete."""
    have = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    with urlopen(request, timeout=_TIMEOUT) as response:
        have = have if response.status == 206 else 0  # a server that cannot resume sends all of it
        length = response.headers.get('Content-Length')
        total = have + int(length) if length else None
        progress = Progress(f'downloading {part.stem}', total or 1)
        with open(part, 'ab' if have else 'wb') as file:
            while piece := response.read(_PIECE):
                file.write(piece)
                have += len(piece)
                if total:
                    progress.step(len(piece))
    return total is None or have >= total
