"""Cache of features on disk, shared by protocols and runs."""

import hashlib
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from mmengine.dist import broadcast_object_list, is_main_process

from mmselfsup_graft.utils.files import open_regular, whole_file
from mmselfsup_graft.version import __version__

from .features import Embedded, join_parts
from .pooling import feature_parts

_DAMAGED = (OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def samples_sha256(dataset: Any) -> str:
    """Hash of the list of samples of a data set: paths, or arrays in memory, and labels."""
    listed = getattr(dataset, 'data_bytes', None)  # mmengine keeps the samples pickled in one array
    samples = listed if listed is not None and len(listed) else pickle.dumps(getattr(dataset, 'data_list', None))
    return hashlib.sha256(samples).hexdigest()


class FeatureCache:
    """Features in ``<folder>/<hash>.npz``, one file per feature; the hash covers everything the features depend on.

    Over ranks: the first process reads and writes, all get the features.

    Args:
        folder: Folder of the files; None disables the cache.
        origin: Identity of encoder and preprocessor: hash of the checkpoint or seed, configs, block.
    """

    def __init__(self, folder: str | os.PathLike | None, origin: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.origin = origin

    def get(
        self,
        config: dict,
        dataset: Any,
        features: Sequence[str],
        extract: Callable[[Any, Sequence[str]], Embedded],
    ) -> Embedded:
        """Features of a data set: from the files, else by ``extract``; a damaged file is replaced.

        Args:
            config: Config of the data set.
            dataset: The data set; its list of samples, and size and time of their files, are part of the hash, to
                detect changed images. If some could not be read, nothing is stored, as they may be repaired.
            features: Of :data:`FEATURES`; the parts of ``both`` are stored separately.
            extract: Computes features of a data set in one pass, on all processes.
        """
        if self.folder is None:
            return extract(dataset, features)
        parts = feature_parts(features)
        paths = {part: self.folder / f'{key}.npz' for part, key in self.keys(config, dataset, parts).items()}
        stored: list[dict[str, Any]] = [_read_all(paths, dataset) if is_main_process() else {}]
        broadcast_object_list(stored)
        if all(part in stored[0] for part in parts):
            found, labels = {part: rows for part, (rows, _) in stored[0].items()}, stored[0][parts[0]][1]
            made = Embedded(found, labels, np.arange(len(dataset)))
        else:
            made = extract(dataset, parts)  # one pass computes all of them
            if is_main_process() and len(made.indices) == len(dataset):
                _write_all(paths, made)
        return Embedded({name: join_parts(made.features, name) for name in features}, made.labels, made.indices)

    def keys(self, config: dict, dataset: Any, features: Sequence[str]) -> dict[str, str]:
        """Hash of encoder, data config, list of samples, state of their files and the feature, for each feature."""
        text = json.dumps([__version__, self.origin, config], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode())
        digest.update(samples_sha256(dataset).encode())
        for number in range(len(dataset)):
            file = dataset.get_data_info(number).get('img_path')
            if file and os.path.exists(file):
                state = os.stat(file)
                digest.update(f'{state.st_size} {state.st_mtime_ns};'.encode())
        found = {}
        for feature in features:
            each = digest.copy()
            each.update(feature.encode())
            found[feature] = each.hexdigest()[:32]
        return found


def _read_all(paths: dict[str, Path], dataset: Any) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Features [N, D] and labels [N] or None by name, from the complete files of this data set."""
    found, count = {}, len(dataset)
    wanted = dataset.labels() if hasattr(dataset, 'labels') else None
    for name, path in paths.items():
        try:
            with open_regular(path) as file:
                _check_sizes(file)
                with np.load(file, allow_pickle=False) as arrays:
                    features, labels = arrays['features'], arrays.get('labels')
        except _DAMAGED:
            continue
        of_it = labels is None or (labels.dtype == np.int64 and labels.shape == (count,))
        if features.dtype.kind != 'f' or features.ndim != 2 or len(features) != count or not of_it:
            continue
        if labels is None or wanted is None or np.array_equal(labels, wanted):
            found[name] = features, labels
    return found


def _check_sizes(file: IO[bytes]) -> None:
    """Raise an error for compressed parts, which could have any size when they are read; numpy writes none.

    Raises:
        ValueError: If a part is compressed, or they are larger than the file.
    """
    parts = zipfile.ZipFile(file).infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError('compressed')
    if sum(part.file_size for part in parts) > os.fstat(file.fileno()).st_size:
        raise ValueError('larger than the file')
    file.seek(0)


def _write_all(paths: dict[str, Path], fresh: Embedded) -> None:
    for name, rows in fresh.features.items():
        arrays: dict[str, Any] = {'features': rows}
        if fresh.labels is not None:
            arrays['labels'] = fresh.labels
        with whole_file(paths[name]) as file:
            np.savez(file, **arrays)
