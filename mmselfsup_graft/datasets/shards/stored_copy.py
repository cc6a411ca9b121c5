"""A resized copy of a data set, as JPEG files or as decoded images in shards."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets.image_modes import SIXTEEN_BITS, UnknownRange, to_rgb
from mmselfsup_graft.datasets.scanning import find_files, scan_folder
from mmselfsup_graft.datasets.skipped_files import MOST, check_share
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import open_regular, read_json
from mmselfsup_graft.utils.progress import Progress

from .destination import Destination, check_jobs, map_in_processes

FORMS = ('jpeg', 'raw')
SUBSAMPLINGS = ('4:2:0', '4:4:4')
_IMAGES_AT_ONCE = 32  # that a process takes, of a copy as files
_GREY_MODES = ('1', 'L', *SIXTEEN_BITS)


@dataclass(frozen=True)
class CopySettings:
    """Settings that determine the content of a copy.

    Attributes:
        source: Folder of the images.
        format: ``'jpeg'`` or ``'raw'``.
        short_side: Pixels of the shorter side; smaller images are not changed.
        quality: Of JPEG, 1 .. 100.
        subsampling: Of JPEG's colors, ``'4:2:0'`` or ``'4:4:4'``.
        per_shard: Images of a raw shard.
    """

    source: str
    format: str = 'jpeg'
    short_side: int = 256
    quality: int = 95
    subsampling: str = '4:2:0'
    per_shard: int = 1024

    def __post_init__(self) -> None:
        if self.format not in FORMS or self.subsampling not in SUBSAMPLINGS:
            raise ConfigError(
                f'format is {self.format!r} and subsampling {self.subsampling!r}, expected one of {FORMS} and one of '
                f'{SUBSAMPLINGS}'
            )
        if self.short_side < 1 or self.per_shard < 1 or not 1 <= self.quality <= 100:
            raise ConfigError(
                f'short_side is {self.short_side}, per_shard {self.per_shard} and quality {self.quality}; expected '
                'positive numbers, and a quality of at most 100'
            )

    def written(self, paths: Sequence[str]) -> dict[str, Any]:
        """The entries of the manifest that must be equal in a resumed run."""
        common = {
            'source': os.path.abspath(self.source),
            'format': self.format,
            'short_side': self.short_side,
            # the images, and their shards
            'images_sha256': hashlib.sha256('\n'.join(paths).encode(errors='surrogateescape')).hexdigest(),
        }
        if self.format == 'jpeg':
            return {**common, 'quality': self.quality, 'subsampling': self.subsampling}
        return {**common, 'per_shard': self.per_shard}


class _Unreadable(Exception):
    """An image of the source cannot be decoded."""


def store_resized(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    form: str = 'jpeg',
    short_side: int = 256,
    quality: int = 95,
    subsampling: str = '4:2:0',
    per_shard: int = 1024,
    jobs: int = 1,
    on_corrupt: str = 'skip',
    max_left_out: float = MOST,
) -> dict[str, Any]:
    """Store the images below a folder so that their shorter side has ``short_side`` pixels.

    Images are decoded as :class:`mmselfsup_graft.datasets.LoadImage` does (16-bit ones scaled to 8) and scaled by PIL's
    bicubic filter with antialiasing, to whole numbers of pixels nearest to the proportions; smaller ones are never
    enlarged. Gray images stay gray, all others become RGB; orientation tags and color profiles, which the loader
    ignores, are dropped.

    ``'jpeg'`` keeps all relative paths, extensions included (readers detect the format by content), and text files
    (``*.txt``: lists, labels), so the copy can be read in place of the source. A JPEG that is small enough is copied
    byte by byte. ``'raw'`` makes shards for :class:`mmselfsup_graft.datasets.RawShards`.

    Call it again to resume after a stop, if the source has the same images by name; files that are copied already are
    not compared with the source again. ``manifest.json`` in the destination has the settings, versions,
    counts, the names of unreadable images and, for shards, their SHA-256.

    Args:
        source: Folder of images, at any depth.
        destination: Folder to write, empty or started by the same call.
        form, short_side, quality, subsampling, per_shard: See :class:`CopySettings`.
        jobs: Processes.
        on_corrupt: ``'skip'`` lists unreadable images in the manifest and skips them, ``'raise'`` stops.
        max_left_out: Share of the files that may be left out because they do not look like images.

    Returns:
        The manifest.

    Raises:
        ConfigError: An argument is out of range.
        DataError: The source has no (readable) image or too many other files, the destination cannot be written or was
            started with other settings, or an image is unreadable and ``on_corrupt`` is ``'raise'``.
    """
    settings = CopySettings(os.fspath(source), form, short_side, quality, subsampling, per_shard)
    if on_corrupt not in ('skip', 'raise'):
        raise ConfigError(f"on_corrupt is {on_corrupt!r}, expected 'skip' or 'raise'")
    check_jobs(jobs)
    inside, outside = Path(destination).resolve(), Path(source).resolve()
    if inside == outside or outside in inside.parents:
        raise ConfigError(f'the destination {destination} is inside the source {source}; choose a folder outside of it')
    found = scan_folder(os.fspath(source))
    found.left_out.check(len(found.paths), check_share(max_left_out, 'store_resized'), os.fspath(source))
    paths = found.paths
    with Destination(destination, settings.written(paths)) as target:
        copy = _copy_files if form == 'jpeg' else _copy_shards
        content = copy(settings, target, paths, jobs, on_corrupt)
        if not content['counts']['stored']:
            raise DataError(f'none of the {len(paths)} images below {settings.source!r} can be read; check the disk')
        return target.finish(content)


def _decode(path: str) -> Image.Image:
    file: IO[bytes] | None = None
    try:
        file = open_regular(path)
        with file, Image.open(file) as image:
            small = to_rgb(image, 'L' if image.mode in _GREY_MODES else 'RGB')
            small.format = image.format
            return small
    except UnknownRange as error:
        raise _Unreadable(str(error)) from error
    except Exception as error:  # PIL's plugins raise nearly every kind on damaged input
        said = str(error).replace(repr(file), 'its content') if file else str(error)  # PIL names its input
        raise _Unreadable(f'{type(error).__name__}: {said}') from error


def _skip(path: str, error: _Unreadable, on_corrupt: str) -> list[str]:
    if on_corrupt == 'raise':
        raise DataError(f'{path} cannot be read ({error}); replace or remove it, or skip such images')
    return [path, str(error)]


def resized(image: Image.Image, short_side: int) -> Image.Image:
    """Scale an image down so that its shorter side has ``short_side`` pixels; a smaller one is returned unchanged."""
    shorter = min(image.size)
    if shorter <= short_side:
        return image
    width, height = (max(1, round(side * short_side / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _counts(paths: Sequence[str], skipped: Sequence[Any], size: int) -> dict[str, Any]:
    return {
        'counts': {'found': len(paths), 'stored': len(paths) - len(skipped), 'skipped': len(skipped), 'bytes': size},
        'skipped': dict(skipped),
    }


# ---------------------------------------------------------------- files
def _copy_files(
    settings: CopySettings, target: Destination, paths: Sequence[str], jobs: int, on_corrupt: str
) -> dict[str, Any]:
    texts = _copy_texts(settings.source, target)
    groups = [paths[start : start + _IMAGES_AT_ONCE] for start in range(0, len(paths), _IMAGES_AT_ONCE)]
    progress = Progress(f'{target.folder}', len(paths))
    skipped: list[Any] = []
    size = 0
    work = partial(_copy_some, settings, target, on_corrupt)
    for group, (bytes_, bad) in zip(groups, map_in_processes(work, groups, jobs), strict=True):
        skipped += bad
        size += bytes_
        progress.step(len(group), f', {len(skipped)} unreadable')
    return {**_counts(paths, skipped, size), 'texts': texts}


def _copy_some(
    settings: CopySettings, target: Destination, on_corrupt: str, paths: Sequence[str]
) -> tuple[int, list[list[str]]]:
    size, skipped = 0, []
    for path in paths:
        file = target.folder / path
        if not (file.is_file() and file.stat().st_size):
            try:
                content = _encoded(os.path.join(settings.source, path), settings)
            except _Unreadable as error:
                skipped.append(_skip(path, error, on_corrupt))
                continue
            with target.file(path) as out:
                out.write(content)
        size += file.stat().st_size
    return size, skipped


def _encoded(path: str, settings: CopySettings) -> bytes:
    image = _decode(path)
    small = resized(image, settings.short_side)
    if small is image and image.format == 'JPEG':
        with open_regular(path) as file:
            return file.read()
    buffer = io.BytesIO()
    small.save(buffer, format='JPEG', quality=settings.quality, subsampling=settings.subsampling)
    return buffer.getvalue()


def _copy_texts(source: str, target: Destination) -> list[str]:
    """Copy lists and labels, which data sets look for next to the images."""
    texts = []
    for text in find_files(source, ('.txt', '.txt.json')):
        with open_regular(os.path.join(source, text)) as file, target.file(text) as out:
            shutil.copyfileobj(file, out)
        texts.append(text)
    return texts


# ---------------------------------------------------------------- shards
def _copy_shards(
    settings: CopySettings, target: Destination, paths: Sequence[str], jobs: int, on_corrupt: str
) -> dict[str, Any]:
    groups = [
        (f'images-{number:06d}', paths[start : start + settings.per_shard])
        for number, start in enumerate(range(0, len(paths), settings.per_shard))
    ]
    progress = Progress(f'{target.folder}', len(paths))
    skipped: list[Any] = []
    shards = []
    work = partial(_store_shard, settings, target, on_corrupt)
    for (_, group), table in zip(groups, map_in_processes(work, groups, jobs), strict=True):
        skipped += table['skipped']
        shards.append(
            {'name': table['name'], 'images': table['images'], 'bytes': table['bytes'], 'sha256': table['sha256']}
        )
        progress.step(len(group), f', {len(skipped)} unreadable')
    return {**_counts(paths, skipped, sum(shard['bytes'] for shard in shards)), 'shards': shards}


def _store_shard(
    settings: CopySettings, target: Destination, on_corrupt: str, group: tuple[str, Sequence[str]]
) -> dict[str, Any]:
    """Write one shard and then its table, unless both are there."""
    stem, paths = group
    table_file, file = target.folder / f'{stem}.json', target.folder / f'{stem}.bin'
    if table_file.is_file() and file.is_file():
        table = read_json(table_file, keys=('name', 'images', 'bytes', 'sha256', 'skipped'), most=None)
        if table['bytes'] == file.stat().st_size and not (table['skipped'] and on_corrupt == 'raise'):
            return {key: table[key] for key in ('name', 'images', 'bytes', 'sha256', 'skipped')}
    columns: dict[str, list[Any]] = {'paths': [], 'shapes': [], 'offsets': [], 'skipped': []}
    size, digest = 0, hashlib.sha256()
    with target.file(file.name) as out:
        for path in paths:
            try:
                pixels = np.asarray(resized(_decode(os.path.join(settings.source, path)), settings.short_side))
            except _Unreadable as error:
                columns['skipped'].append(_skip(path, error, on_corrupt))
                continue
            columns['paths'].append(path)
            columns['shapes'].append(list(pixels.shape))
            columns['offsets'].append(size)
            content = pixels.tobytes()
            digest.update(content)
            out.write(content)
            size += len(content)
    head = {'name': file.name, 'images': len(columns['paths']), 'bytes': size, 'sha256': digest.hexdigest()}
    with target.file(table_file.name) as out:
        out.write(json.dumps({**head, **columns}).encode())
    return {**head, 'skipped': columns['skipped']}
