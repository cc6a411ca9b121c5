"""Features on disk, so that several protocols and runs extract them once."""

import hashlib
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, is_main_process

from mmselfsup_graft.checkpoints import whole_file
from mmselfsup_graft.version import __version__

from .logistic import FeatureSet

_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def samples_sha256(dataset: Any) -> str:
    """Hash of the list of samples of a data set: paths, or arrays in memory, and labels."""
    listed = getattr(dataset, 'data_bytes', None)  # mmengine keeps the samples pickled in one array
    samples = listed if listed is not None and len(listed) else pickle.dumps(getattr(dataset, 'data_list', None))
    return hashlib.sha256(samples).hexdigest()


class FeatureCache:
    """Features in ``<folder>/<hash>.npz``; the hash is that of all they depend on.

    Over ranks: the first process reads and writes, all get the features.

    Args:
        folder: Where the files lie; None keeps nothing.
        origin: What encoder and preprocessor are: hash of the checkpoint or seed, configs, block.
    """

    def __init__(self, folder: str | os.PathLike | None, origin: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.origin = origin

    def get(self, config: dict, dataset: Any, extract: Callable[[Any], FeatureSet]) -> FeatureSet:
        """Features of a data set: from the file, else by ``extract``; a damaged file is made anew.

        Args:
            config: Config of the data set.
            dataset: The data set; its list of samples, and size and time of their files, are part of the hash, so that
                changed images are noticed. If some could not be read, nothing is kept: they may be mended.
            extract: Makes features [N, D] and labels [N] of a data set, on all processes.
        """
        if self.folder is None:
            return extract(dataset)
        path = self.folder / f'{self.key(config, dataset)}.npz'
        stored: list[FeatureSet | None] = [_read(path) if is_main_process() else None]
        broadcast_object_list(stored)
        if stored[0] is not None:
            return stored[0]
        features = extract(dataset)
        if is_main_process() and len(features[1]) == len(dataset):
            with whole_file(path) as file:
                np.savez(file, features=features[0], labels=features[1])
        return features

    def key(self, config: dict, dataset: Any) -> str:
        """Hash of encoder, data config, list of samples and state of their files."""
        text = json.dumps([__version__, self.origin, config], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode())
        digest.update(samples_sha256(dataset).encode())
        for number in range(len(dataset)):
            file = dataset.get_data_info(number).get('img_path')
            if file and os.path.exists(file):
                state = os.stat(file)
                digest.update(f'{state.st_size} {state.st_mtime_ns};'.encode())
        return digest.hexdigest()[:32]


def _read(path: Path) -> FeatureSet | None:
    """Content of a file, or None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features, labels = arrays['features'], arrays['labels']
    except _DAMAGED:
        return None
    return (features, labels) if features.ndim == 2 and labels.shape == features.shape[:1] else None
