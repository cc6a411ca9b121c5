"""Features of a folder of images, extracted in parts, so that an interrupted extraction continues."""

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.errors import ConfigError, NonFiniteError
from mmselfsup_graft.evaluation.encoders import Encoder
from mmselfsup_graft.evaluation.features import Embedded, embed
from mmselfsup_graft.registry import DATASETS
from mmselfsup_graft.utils.files import open_regular, read_json, whole_file, write_json
from mmselfsup_graft.utils.progress import Progress

from .image_table import ImageTable

_PART = 2048  # images: little to do again, and few files
_KEY = 'key.json'
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Extraction:
    """How features are extracted.

    Attributes:
        feature: One of the encoder's features; None is its own.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        part: Images per part that is kept.
    """

    feature: str | None = None
    batch_size: int = 256
    num_workers: int = 0
    part: int = _PART


def folder_data(
    encoder: Encoder, folder: str, labeled: bool = True, most_left_out: float | None = None
) -> dict[str, Any]:
    """Config of the data set of all images in a folder, with the encoder's transforms.

    Args:
        encoder: Its pipeline is taken.
        folder: Images at any depth.
        labeled: Whether sub-folders are read as classes, where they look like it.
        most_left_out: Share of the files that may be left out; None is the usual one.

    Raises:
        ConfigError: If the size of the encoder's images is not known.
    """
    if not encoder.pipeline:
        raise ConfigError(f'the image size of {encoder.name} is not known; give it: --img-size N')
    limit = {} if most_left_out is None else {'max_left_out': most_left_out}
    label = 'auto' if labeled else False
    return dict(type='ImageFolder', data_root=folder, pipeline=list(encoder.pipeline), with_label=label, **limit)


def embed_data(
    encoder: Encoder, data: Mapping[str, Any], extraction: Extraction | None = None, kept: Path | None = None
) -> tuple[ImageTable, SelfSupDataset]:
    """Features of the images of a data set, in its order; unreadable images are left out.

    Args:
        encoder: The encoder.
        data: Config of the data set.
        extraction: How.
        kept: Folder where finished parts are kept until the table is written (:func:`forget_parts`); parts there of the
            same encoder, images and feature are not extracted again, others are removed. None keeps nothing.

    Returns:
        The table, and the data set, which knows the unreadable images.

    Raises:
        ConfigError: If the encoder has no such feature.
        DataError: If no image can be read.
        NonFiniteError: If features hold NaN or infinity.
    """
    how = extraction or Extraction()
    (name,) = encoder.check(None if how.feature is None else [how.feature])
    dataset = DATASETS.build(dict(data))
    shares = [np.arange(start, min(start + how.part, len(dataset))) for start in range(0, len(dataset), how.part)]
    if kept is not None:
        (key,) = encoder.cache.keys(dict(data), dataset, [name]).values()
        _prepare(kept, {'key': key, 'part': how.part})
    files = [None if kept is None else kept / f'part_{number:06d}.npz' for number in range(len(shares))]
    done = {number: part for number, file in enumerate(files) if (part := _read_part(file)) is not None}
    if done:
        print(f'resuming: {sum(len(shares[number]) for number in done):,} of {len(dataset):,} images are done')
    left = [number for number in range(len(shares)) if number not in done]
    progress = Progress('embedding', sum(-(-len(shares[number]) // how.batch_size) for number in left))
    for number in left:
        made = embed(
            encoder.backbone,
            encoder.preprocessor,
            dataset,
            [name],
            how.batch_size,
            how.num_workers,
            shares[number],
            progress,
        )
        _check_finite(encoder, made)
        done[number] = made.features[name], made.indices
        _write_part(files[number], *done[number])
    vectors = np.concatenate([done[number][0] for number in range(len(shares))])
    indices = np.concatenate([done[number][1] for number in range(len(shares))])
    return _table(dataset, vectors, indices), dataset


def forget_parts(kept: Path) -> None:
    """Remove the parts, once the whole table is written."""
    shutil.rmtree(kept, ignore_errors=True)


def _prepare(kept: Path, key: dict[str, Any]) -> None:
    """Make the folder of parts; remove those of another extraction."""
    path = kept / _KEY
    if path.is_file() and read_json(path) == key:
        return
    if kept.exists():
        if not path.is_file():
            raise ConfigError(f'{kept} is not a folder of parts of features; choose another --out')
        print(f'{kept}: parts of other images, another encoder or feature are removed')
        forget_parts(kept)
    kept.mkdir(parents=True)
    write_json(path, key)


def _read_part(path: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Vectors [n, D] and places [n] of a finished part; None if there is none or it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            return arrays['vectors'], arrays['indices']
    except _DAMAGED:
        return None


def _write_part(path: Path | None, vectors: np.ndarray, indices: np.ndarray) -> None:
    if path is not None:
        with whole_file(path) as file:
            np.savez(file, vectors=vectors, indices=indices)


def _check_finite(encoder: Encoder, made: Embedded) -> None:
    if made.non_finite():
        raise NonFiniteError(
            f'{encoder.name} gives NaN or infinite features for {made.non_finite()} images; its training diverged'
        )


def _table(dataset: SelfSupDataset, vectors: np.ndarray, indices: np.ndarray) -> ImageTable:
    labels, names = dataset.labels(), dataset.classes or ()
    paths = [str(dataset.get_data_info(int(number)).get('img_path', number)) for number in indices]
    told = None if labels is None else [names[label] if names else str(label) for label in labels[indices].tolist()]
    return ImageTable(paths, told, vectors)
