"""Tar archives of a data set in webdataset's layout, and their index for ``TarShards``."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmselfsup_graft.datasets.classes import shown
from mmselfsup_graft.datasets.image_sets.image_folder import ImageFolder
from mmselfsup_graft.datasets.skipped_files import MOST, LeftOut, check_share
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import open_regular, read_json, whole_file
from mmselfsup_graft.utils.progress import Progress

from .destination import Destination, check_jobs, map_in_processes
from .shard_index import INDEX_NAME, Shard, expand_braces, index_archive, index_text, parse_index, parse_shard
from .stores import Store

_Group = tuple[str, Sequence[tuple[str, str, int]]]  # name of an archive; file, key and label of its samples


def make_shards(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    split: str = '',
    name: str = 'images',
    per_shard: int = 4000,
    seed: int | None = 0,
    with_label: bool | str = 'auto',
    jobs: int = 1,
    max_left_out: float = MOST,
) -> dict[str, Any]:
    """Write the images of a folder into archives ``NAME-000000.tar`` …, their index and a manifest.

    Files are copied byte by byte. A sample's key is its path without the end of its name, dots replaced by
    ``_``; ``key.cls`` holds the label. Call it again to resume after a stop.

    Args:
        source: Folder, e.g. ``data/imagenet``.
        destination: Local folder to write, empty or started by the same call; copy it to an object store afterwards.
        split, with_label: See :class:`mmselfsup_graft.datasets.ImageFolder`.
        name: Beginning of the archives' names.
        per_shard: Images of an archive.
        seed: Of the random order in which images are written, so that every archive holds all classes and neighbors
            are unrelated; ``None`` keeps the order of the paths.
        jobs: Processes.
        max_left_out: Share of the files that may be left out, see :class:`mmselfsup_graft.datasets.SelfSupDataset`.

    Returns:
        The manifest: settings, versions, counts, and name, images, bytes and SHA-256 of every archive.

    Raises:
        ConfigError: An argument is out of range.
        DataError: The source has no image, or one that cannot be opened; the destination cannot be written or was
            started with other settings.
    """
    if per_shard < 1 or not name or '/' in name:
        raise ConfigError(f'per_shard is {per_shard} and name {name!r}, expected a positive number and a file name')
    check_jobs(jobs)
    folder = ImageFolder(os.fspath(source), split=split, with_label=with_label, max_left_out=max_left_out)
    root = os.path.join(os.fspath(source), split)
    infos = [folder.get_data_info(number) for number in range(len(folder))]
    files = [os.path.relpath(info['img_path'], root) for info in infos]
    samples = [
        (file, key, info.get('gt_label', -1)) for file, key, info in zip(files, _keys(files), infos, strict=True)
    ]
    settings = {
        'source': os.path.abspath(root),
        'name': name,
        'per_shard': per_shard,
        'seed': seed,
        'images_sha256': hashlib.sha256(json.dumps([samples, folder.classes]).encode()).hexdigest(),
    }
    if seed is not None:
        order = np.random.RandomState(seed).permutation(len(samples))  # its stream is frozen for all versions of numpy
        samples = [samples[number] for number in order]
    groups = [
        (f'{name}-{number:06d}.tar', samples[start : start + per_shard])
        for number, start in enumerate(range(0, len(samples), per_shard))
    ]
    with Destination(destination, settings) as target:
        shards = _finished(target) or _write_shards(root, target, groups, folder.classes, jobs)
        for shard in shards:  # also those of a process that was killed after it wrote the index
            _table(target, shard.name).unlink(missing_ok=True)
        return target.finish(_description(shards))


def _write_shards(
    root: str, target: Destination, groups: Sequence[_Group], classes: Sequence[str] | None, jobs: int
) -> list[Shard]:
    """Write the missing archives, then the index."""
    progress = Progress(f'{target.folder}', sum(len(samples) for _, samples in groups))
    shards = []
    for (_, samples), shard in zip(
        groups, map_in_processes(partial(_write_shard, root, target), groups, jobs), strict=True
    ):
        shards.append(shard)
        progress.step(len(samples))
    with target.file(INDEX_NAME) as out:
        out.write(index_text(shards, classes).encode())
    return shards


def _finished(target: Destination) -> list[Shard]:
    """All archives, if the index, which is written last, exists and matches them."""
    index = target.folder / INDEX_NAME
    if not index.is_file():
        return []
    shards = parse_index(index.read_bytes(), str(index))[0]
    files = [(target.folder / shard.name, shard.bytes) for shard in shards]
    return shards if all(file.is_file() and file.stat().st_size == size for file, size in files) else []


def _description(shards: Sequence[Shard]) -> dict[str, Any]:
    listed = [{'name': s.name, 'images': len(s.keys), 'bytes': s.bytes, 'sha256': s.sha256} for s in shards]
    counts = {'stored': sum(len(s.keys) for s in shards), 'bytes': sum(s.bytes for s in shards)}
    return {'counts': counts, 'shards': listed}


def _keys(files: Sequence[str]) -> list[str]:
    """Keys of the samples: unique and without dots, unlike file names."""
    keys: dict[str, None] = {}
    for file in files:
        folder, _, last = file.rpartition('/')
        stem = os.path.splitext(last)[0].replace('.', '_')
        key = first = f'{folder}/{stem}' if folder else stem
        number = 1
        while key in keys:
            number += 1
            key = f'{first}_{number}'
        keys[key] = None
    return list(keys)


def _table(target: Destination, name: str) -> Path:
    """Index of one archive, kept until all are written."""
    return target.folder / f'.{name}.json'


class _Hashed:
    """A writable file that hashes its content."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Write and count."""
        self.digest.update(content)
        self.size += len(content)
        return self.file.write(content)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size


def _write_shard(root: str, target: Destination, group: _Group) -> Shard:
    """Write one archive and then its table, unless both are there."""
    name, samples = group
    file, table = target.folder / name, _table(target, name)
    if file.is_file() and table.is_file():
        shard = parse_shard(read_json(table, most=None), str(table))
        if shard.bytes == file.stat().st_size:
            return shard
    with target.file(name) as out:
        hashed = _Hashed(out)
        with tarfile.open(fileobj=hashed, mode='w', format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
            for path, key, label in samples:
                if label >= 0:
                    _add(archive, f'{key}.cls', str(label).encode())
                _add(archive, f'{key}{os.path.splitext(path)[1].lower()}', _content(os.path.join(root, path)))
    with open(file, 'rb') as written:
        shard = index_archive(written, name, hashed.size)
    shard.sha256 = hashed.digest.hexdigest()
    with target.file(table.name) as out:
        out.write(json.dumps(shard.__dict__).encode())
    return shard


def _content(path: str) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error.strerror}); repair or remove it') from error


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member whose header depends on name and size only, so that equal samples give equal archives."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))


# ---------------------------------------------------------------- existing archives
def index_shards(
    source: str,
    out: str | os.PathLike | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    classes: Sequence[str] | None = None,
    max_left_out: float = MOST,
) -> list[Shard]:
    """Make the index of existing archives.

    Args:
        source: A local folder, whose ``*.tar`` are taken in the order of their names, or a pattern such as
            ``s3://bucket/name-{000000..000127}.tar``.
        out: Index to write; ``None``: ``index.json`` beside the archives, which must then be local.
        storage_options: Arguments of fsspec's file system.
        jobs: Processes.
        overwrite: Replace an index that exists.
        classes: Names of the classes in the order of the labels; the index keeps them.
        max_left_out: Share of the members that may be left out: what is neither image nor label nor beside an image.

    Returns:
        The archives.

    Raises:
        ConfigError: ``out`` is needed and missing.
        DataError: There is no archive, or one is missing, damaged or not a tar archive in webdataset's layout; too many
            members are not images, or there are fewer classes than labels.
    """
    check_jobs(jobs)
    folder, names = _archives(source)
    if out is None and '://' in folder:
        raise ConfigError(f'{folder} is not a local folder; give a path for the index (--out)')
    path = Path(out) if out is not None else Path(folder) / INDEX_NAME
    if path.exists() and not overwrite:
        raise DataError(f'{path} exists and was not changed; remove it, or use --force to replace it')
    store = Store(folder, storage_options)
    progress = Progress(f'{path}', len(names))
    shards = []
    for shard in map_in_processes(partial(_index_one, store), names, jobs):
        shards.append(shard)
        progress.step()
    if not any(shard.keys for shard in shards):
        raise DataError(f'no image in {len(names)} archives of {folder}; expected members like key.jpg and key.cls')
    left_out = LeftOut()
    for shard in shards:
        left_out.update(shard.left_out())
    left_out.check(sum(len(shard.keys) for shard in shards), check_share(max_left_out, 'index_shards'), source)
    highest = max(max(shard.labels, default=-1) for shard in shards)
    if classes is not None and highest >= len(classes):
        raise DataError(f'{source} has the label {highest}, but the class names are only {shown(classes)}')
    try:
        with whole_file(path) as file:
            file.write(index_text(shards, classes).encode())
    except OSError as error:
        raise DataError(f'{path} cannot be written ({error.strerror}); choose another place (--out)') from error
    return shards


def _archives(source: str) -> tuple[str, list[str]]:
    """Folder and names of the archives."""
    if '://' not in source and os.path.isdir(source):
        names = sorted(entry for entry in os.listdir(source) if entry.endswith('.tar') and not entry.startswith('.'))
        if not names:
            raise DataError(f'no *.tar in {source!r}; give a folder of archives, or a pattern like x-{{000..127}}.tar')
        return source, names
    folder, _, pattern = source.rpartition('/')
    if not pattern.endswith('.tar'):
        raise DataError(f'{source!r} is neither a folder nor a pattern of archives like name-{{000000..000127}}.tar')
    return folder or '.', expand_braces(pattern)


def _index_one(store: Store, name: str) -> Shard:
    store.check_regular(name)
    try:
        with store.system.open(store.path(name), 'rb') as file:
            return index_archive(file, name, store.system.size(store.path(name)))
    except FileNotFoundError as error:
        raise DataError(f'{store.address(name)} does not exist; check the pattern') from error
    except OSError as error:
        raise DataError(f'{store.address(name)} cannot be read ({error}); check the connection') from error
