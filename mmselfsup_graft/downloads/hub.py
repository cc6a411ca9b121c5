"""Weights in a repository of the Hugging Face hub, or in a folder with its layout.

Only ``model.safetensors`` and two small JSON files are taken. Code in a repository is neither downloaded nor run.
"""

import os
import re
from pathlib import Path
from typing import Any

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.errors import CheckpointError, ConfigError

from .http_fetch import Limits, shown

WEIGHTS = 'model.safetensors'
CONFIG, IMAGES = 'config.json', 'preprocessor_config.json'
_MAX_JSON = 2**20  # bytes, as the reader of a checkpoint allows
_REPOSITORY = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*', re.ASCII)
_SHA256 = re.compile(r'[0-9a-f]{64}')


def hub_library() -> Any:
    """The package huggingface_hub.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            'the hub needs the package huggingface_hub: pip install huggingface_hub safetensors'
        ) from error
    return huggingface_hub


def check_repository(name: str) -> str:
    """The name of a repository.

    Raises:
        ConfigError: If it is not ``user/name``.
    """
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f'{name!r} is not the name of a repository: expected user/name')
    return name


def hub_weights(source: str | os.PathLike, revision: str | None = None, limits: Limits | None = None) -> Path:
    """The file ``model.safetensors`` of a folder or a repository, with its JSON files beside it.

    Downloads are kept in the cache of huggingface_hub and are not repeated. ``GRAFT_OFFLINE=1`` and
    ``HF_HUB_OFFLINE=1`` take what is there. The token of ``hf auth login`` or ``HF_TOKEN`` is used.

    Args:
        source: Folder, or ``user/name``.
        revision: Branch, tag or commit of a repository; None is ``main``.
        limits: ``max_bytes`` is the size of the largest file that is taken.

    Raises:
        CheckpointError: If there is no such folder or repository, it has no ``model.safetensors``, a file is too large,
            or its content is not what the hub states.
        ConfigError: If the source is neither, or huggingface_hub is not installed.
    """
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, revision)
    name = os.fspath(source)
    if path.exists():
        raise ConfigError(f'{name} is a file; from_checkpoint reads files, from_pretrained a folder or user/name')
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f'{name} is neither a folder nor the name of a repository (user/name)')
    hub_library()
    most = (limits or Limits()).max_bytes
    weights = _download(name, WEIGHTS, revision, most)
    if weights is None:
        raise CheckpointError(f'{name} has no {WEIGHTS}; other files are not loaded, as they may run code')
    for beside in (CONFIG, IMAGES):
        found = _download(name, beside, revision, _MAX_JSON)
        if found is not None and found.parent != weights.parent:
            raise CheckpointError(f'{name} changed while it was downloaded; run the command again')
    return weights


def _in_folder(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise ConfigError(f'revision is for a repository, {folder} is a folder')
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f'{folder} has no {WEIGHTS}; other files are not loaded, as they may run code')
    return folder / WEIGHTS


def _download(repository: str, name: str, revision: str | None, most: int) -> Path | None:
    """One file; None if the repository has none of this name."""
    library = hub_library()
    errors = library.errors
    options = {'revision': revision}
    try:
        if os.environ.get('GRAFT_OFFLINE') == '1' or library.constants.HF_HUB_OFFLINE:
            return Path(library.hf_hub_download(repository, name, local_files_only=True, **options))
        about = library.get_hf_file_metadata(library.hf_hub_url(repository, name, **options), token=library.get_token())
        _check_size(f'{name} of {repository}', about.size, most)
        path = Path(library.hf_hub_download(repository, name, **options))
    except errors.LocalEntryNotFoundError as error:
        if name != WEIGHTS:
            return None
        raise CheckpointError(f'{repository} is not in the cache, and there is no connection to the hub') from error
    except (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        if isinstance(error, errors.EntryNotFoundError):
            return None
        raise CheckpointError(
            f'the hub has no repository {repository}{f" with revision {revision}" if revision else ""} that you may '
            'read; check the name, or log in: hf auth login'
        ) from error
    except (OSError, ValueError, errors.HfHubHTTPError) as error:  # also errors of requests, which are OSErrors
        said = ' '.join(str(error).split())[:300]
        raise CheckpointError(f'{name} of {repository} could not be downloaded: {said}') from error
    _check_content(path, f'{name} of {repository}', about)
    return path


def _check_size(name: str, size: int | None, most: int) -> None:
    if size is None or size > most:
        found = 'unknown' if size is None else f'{size:,} bytes'
        raise CheckpointError(f'the size of {name} is {found}, expected at most {most:,} bytes')


def _check_content(path: Path, name: str, about: Any) -> None:
    """Compare a downloaded file with what the hub states; its hash is known for large files."""
    size, etag = path.stat().st_size, about.etag or ''
    if size != about.size or (_SHA256.fullmatch(etag) and file_sha256(path) != etag):
        path.resolve().unlink(missing_ok=True)
        raise CheckpointError(
            f'{name} from {shown(about.location)} is not the file that the hub states (size or SHA-256 differ); it was '
            'not kept, try again'
        )
