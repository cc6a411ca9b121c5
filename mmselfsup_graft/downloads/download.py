"""Downloading files: resumed where it was cut, checked by hash, from a mirror or a local file, or not at all."""

import os
import re
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import torch
from filelock import FileLock

from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.utils.files import open_regular, why_not_regular

from .expected import Expected
from .hash_lock import HashLock
from .http_fetch import Limits, fetch, shown
from .part_file import append_to, size_of
from .remote_file import Weights

_PIECE = 1 << 20
_HASH = re.compile(r'[0-9a-fA-F]{8,64}')
_MD5 = re.compile(r'[0-9a-fA-F]{6,32}')


def weights_folder() -> Path:
    """Where downloads are kept: ``GRAFT_WEIGHTS``, or a folder beside torch hub's."""
    return Path(os.environ.get('GRAFT_WEIGHTS') or Path(torch.hub.get_dir()) / 'mmselfsup_graft')


def download(
    weights: Weights,
    folder: str | os.PathLike | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
    limits: Limits | None = None,
    accept_unknown: bool = False,
    file: str | os.PathLike | None = None,
) -> Path:
    """Get a file, from the folder where downloads are kept if it is there.

    Where the whole SHA-256 is not published, that of the first download is kept in ``zoo-lock.json`` of the folder, and
    later downloads must agree.

    Args:
        weights: What is wanted.
        folder: Where downloads are kept; None is :func:`weights_folder`.
        mirror: Folder, or address of one, in which the file of the same name is looked for instead; None is the
            environment's ``GRAFT_MIRROR``, if set.
        offline: Never open a connection; None is whether the environment's ``GRAFT_OFFLINE`` is set to 1.
        limits: Of attempts, time and size.
        accept_unknown: Take a file whose hash nobody states and print its SHA-256; otherwise it is an error.
        file: A local file that is taken instead of a download, under whatever name it has.

    Returns:
        The file, whose hash was checked.

    Raises:
        CheckpointError: If it cannot be had, or its content is not what was expected. What was downloaded so far is
            kept beside it for the next call, except where its hash is wrong or unknown or it is too large.
        DiskFullError: The disk is full. What was downloaded so far is kept.
    """
    _check_digits(weights)
    target = Path(folder or weights_folder()) / weights.filename
    mirror = mirror if mirror is not None else os.environ.get('GRAFT_MIRROR') or None
    offline = _is_offline() if offline is None else offline
    if _is_there(target, _expected(weights, target)):  # also in a folder that may only be read
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f'.{target.name}.lock'))  # several processes may want it at once
        lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f'{target.parent} cannot be written ({error.strerror or error}); choose another folder: GRAFT_WEIGHTS'
        ) from error
    try:
        expected = _expected(weights, target)  # another process may have kept a hash meanwhile
        if not _is_there(target, expected):
            if not expected.is_known and not accept_unknown:
                raise _unknown(weights, target, expected.lock, file is not None)
            source = _source(weights, target, mirror, offline, file, expected)
            _get(source, weights, target, expected, limits or Limits())
    finally:
        lock.release()
    return target


def _check_digits(weights: Weights) -> None:
    if weights.sha256 is not None and not _HASH.fullmatch(weights.sha256):
        raise CheckpointError(f'{weights.sha256!r} is not a SHA-256, or the first 8 or more of its 64 digits')
    if weights.md5 is not None and not _MD5.fullmatch(weights.md5):
        raise CheckpointError(f'{weights.md5!r} is not an MD5, or the first 6 or more of its 32 digits')


def _expected(weights: Weights, target: Path) -> Expected:
    lock = HashLock.of_folder(target.parent)
    return Expected(weights.sha256, weights.md5, lock.sha256_of(target.name), lock.path)


def _unknown(weights: Weights, target: Path, lock: Path, is_given: bool) -> CheckpointError:
    name, page, option = weights.name or target.name, '', ''
    found = f'{target} is there, but ' if target.exists() else ''
    if weights.url is None and not found and not is_given:
        page, option = f'Get it from {weights.page} with a browser. ', ' --file PATH'
    return CheckpointError(
        f'{found}no hash of {name} is published ({weights.origin}), so nothing can check its content. {page}Run once: '
        f'tools/download_weights.py {name}{option} --accept-unknown-hash; this prints the SHA-256 and keeps it in '
        f'{lock}, and later downloads must agree'
    )


def _is_offline() -> bool:
    """Whether the environment forbids connections.

    Raises:
        ConfigError: If ``GRAFT_OFFLINE`` has another value than 1 or 0.
    """
    value = os.environ.get('GRAFT_OFFLINE', '')
    if value not in ('', '0', '1'):
        raise ConfigError(f'GRAFT_OFFLINE is {value!r}, expected 1 (never open a connection) or 0')
    return value == '1'


def _is_there(target: Path, expected: Expected) -> bool:
    reason = why_not_regular(target)
    if reason is None:
        return expected.matches(target)
    if os.path.lexists(target):
        raise CheckpointError(f'{target} {reason}, expected a file or nothing; remove it')
    return False


def _source(
    weights: Weights,
    target: Path,
    mirror: str | None,
    offline: bool,
    file: str | os.PathLike | None,
    expected: Expected,
) -> str:
    """Path or address to take the file from.

    Raises:
        CheckpointError: If there is none, or it needs a connection in offline mode.
    """
    if file is not None:
        return os.fspath(file)
    if not expected.is_known and target.is_file():  # put there by hand
        return str(target)
    name = weights.name or target.name
    source = _in_mirror(mirror, weights.filename) if mirror else weights.url
    if source is None:
        raise CheckpointError(
            f'{name} has no address of its own. Get it from {weights.page} with a browser, then run: '
            f'tools/download_weights.py {name} --file PATH'
        )
    if offline and _local_path(source) is None:
        raise CheckpointError(
            f'{target} not found, and offline mode does not allow downloading {shown(source)}. Put the file there, or '
            'set GRAFT_MIRROR to a folder that has it'
        )
    return source


def _get(source: str, weights: Weights, target: Path, expected: Expected, limits: Limits) -> None:
    """Fetch or copy the file, check it, keep its hash, give it its name."""
    local = _local_path(source)
    part = target.with_name(f'{target.name}.part')
    if local is not None:
        _copy(local, part, weights, limits)
    else:
        _fetch(source, part, expected, limits)
    found = expected.digests(part)
    problem = expected.problem(found) or ('' if expected.is_known else _refusal(part))
    if problem:
        part.unlink()
        raise CheckpointError(f'{_shown(source)} {problem}; it was not kept, try again or get it some other way')
    if not expected.is_complete:
        HashLock(expected.lock).keep(target.name, found.sha256, found.size, weights.origin)
    if not expected.is_known:
        print(
            f'SHA-256 of {weights.name or target.name}: {found.sha256} (nobody states it; kept in {expected.lock})',
            file=sys.stderr,
        )
    os.replace(part, target)


def _fetch(source: str, part: Path, expected: Expected, limits: Limits) -> None:
    """Download into the part; the rest of an earlier call is used only where a hash tells whether it was right."""
    if not expected.is_known:
        size_of(part)
        part.unlink(missing_ok=True)
        if not fetch(source, part, limits, lambda: False):
            part.unlink(missing_ok=True)
            raise CheckpointError(
                f'{shown(source)}: the server does not say how long the file is, and without a hash nobody can tell '
                'whether all of it arrived; get it some other way'
            )
        return
    is_rest = size_of(part) > 0
    fetch(source, part, limits, lambda: expected.matches(part))
    if is_rest and not expected.matches(part):  # the rest of another file; once more from the start
        part.unlink()
        fetch(source, part, limits, lambda: expected.matches(part))


def _refusal(part: Path) -> str:
    """Why a file of unknown hash cannot be the right one."""
    with open_regular(part) as file:
        start = file.read(512).lstrip()
    if not start:
        return 'is empty'
    return 'is a page for a browser and not the file' if start.startswith(b'<') else ''


def _shown(source: str) -> str:
    return source if _local_path(source) is not None else shown(source)


def _copy(local: Path, part: Path, weights: Weights, limits: Limits) -> None:
    try:
        source = open_regular(local)
    except OSError as error:
        reason = why_not_regular(local) or f'cannot be read ({error.strerror})'
        raise CheckpointError(
            f'{local} {reason}; check the path or the mirror, or get {weights.origin} some other way'
        ) from error
    with source, append_to(part, 0) as write:
        size = 0
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > limits.max_bytes:
                raise CheckpointError(f'{local} is larger than the limit of {limits.max_bytes} bytes')
            write(piece)


def _in_mirror(mirror: str, filename: str) -> str:
    local = _local_path(mirror)
    return str(local / filename) if local is not None else f'{mirror.rstrip("/")}/{quote(filename)}'


def _local_path(source: str) -> Path | None:
    """The path of a local file or folder; None for an address of HTTP.

    Raises:
        CheckpointError: It is another kind of address.
    """
    try:
        parts = urlsplit(source)
        is_http = parts.scheme in ('http', 'https')
        if is_http and parts.hostname and (parts.port is None or parts.port):
            return None
    except ValueError as error:
        raise CheckpointError(f'{source!r} is not an address ({error})') from error
    if parts.scheme == 'file' and parts.netloc in ('', 'localhost'):
        return Path(url2pathname(parts.path))
    if is_http or '://' in source:
        raise CheckpointError(f'{shown(source)!r}: expected an address http(s)://HOST/..., file:///... or a path')
    return Path(source)
