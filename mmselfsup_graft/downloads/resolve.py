"""``zoo:NAME`` in the place of a path."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .download import download
from .published import find_published

if TYPE_CHECKING:
    from mmselfsup_graft.checkpoints import GraftSource

PREFIX = 'zoo:'


def is_zoo_name(source: Any) -> bool:
    """Whether this is ``zoo:NAME`` and not a path."""
    return isinstance(source, str) and source.startswith(PREFIX)


def resolve_zoo(
    source: str | os.PathLike,
    folder: str | os.PathLike | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
) -> str:
    """The path of a file: ``zoo:NAME`` is downloaded unless it is there, everything else is returned as it is.

    Of several processes with one folder, one downloads and the others wait for it.

    Args:
        source: A path or ``zoo:NAME``, see :func:`mmselfsup_graft.downloads.published.find_published`.
        folder: Where downloads are kept, see :func:`mmselfsup_graft.downloads.download.download`.
        mirror: Alternative source, see there.
        offline: Never open a connection, see there.

    Raises:
        ConfigError: If the zoo has no file of this name.
        CheckpointError: If it cannot be had, or its content is not what was expected.
    """
    text = os.fspath(source)
    if not is_zoo_name(text):
        return text
    return str(get_published(text.removeprefix(PREFIX), folder, mirror, offline))


def get_published(
    name: str,
    folder: str | os.PathLike | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
    accept_unknown: bool = False,
    file: str | os.PathLike | None = None,
) -> Path:
    """The path of a published file, downloaded unless it is there; see :func:`resolve_zoo` and
    :func:`mmselfsup_graft.downloads.download.download`.
    """
    weights = find_published(name).weights
    return download(weights, folder, mirror, offline, accept_unknown=accept_unknown, file=file)


def resolve_sources(sources: Sequence['GraftSource']) -> list['GraftSource']:
    """Sources of a graft with paths in the place of ``zoo:NAME``, see :func:`resolve_zoo`."""
    return [
        replace(each, checkpoint=resolve_zoo(each.checkpoint)) if is_zoo_name(each.checkpoint) else each
        for each in sources
    ]
