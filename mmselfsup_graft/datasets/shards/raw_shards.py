"""Decoded images in binary files, mapped into memory: the form that ``store_resized.py --format raw`` writes."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import force_full_init

from mmselfsup_graft.datasets.image_sets.image_folder import ImageFolder, class_of
from mmselfsup_graft.datasets.layout import training_names
from mmselfsup_graft.datasets.scanning import Scan
from mmselfsup_graft.datasets.skipped_files import LeftOut
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.registry import DATASETS
from mmselfsup_graft.utils.files import check_keys, read_json

from .manifest import MANIFEST_NAME


@DATASETS.register_module()
class RawShards(ImageFolder):
    """A stored copy of decoded uint8 images: no file is opened or decoded per image.

    The copy has the tree of its source, so splits and labels are those of :class:`ImageFolder` on the source:
    ``split='train'`` reads the images below ``train``. For ImageNet that gives the usual labels. Each shard
    ``NAME.bin`` holds the pixels of its images one after the other, (H, W, 3) or (H, W) in C order; ``NAME.json``
    lists their paths, shapes and offsets; ``manifest.json`` lists the shards.

    ``img`` of a sample is a read-only view of the mapped file, (H, W, 3) or (H, W): only the pages that a crop touches
    are read, and worker processes share them. Maps are opened at first use by each process.

    Args:
        data_root: Folder of the copy.
        kwargs: Arguments of :class:`ImageFolder`.

    Raises:
        DataError: The copy is missing, not finished, damaged, or holds no image of the split.
    """

    def __init__(self, data_root: str, **kwargs: Any) -> None:
        self._files: list[str] = []
        self._maps: dict[int, np.memmap] = {}
        self._places: dict[str, dict[str, Any]] = {}
        self._folders: set[str] = set()
        super().__init__(data_root=data_root, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_maps': {}}

    def load_data_list(self) -> list[dict]:
        """Read manifest and tables; list the images and, if labeled, their labels."""
        samples = super().load_data_list()
        folder = os.path.join(self.data_root, self.split)
        for sample in samples:
            sample.update(self._places[os.path.relpath(sample['img_path'], folder).replace(os.sep, '/')])
        self._places, self._folders = {}, set()
        return samples

    def training_classes(self, folder: str) -> tuple[str, ...]:
        """Return the class folders of the training split of the copy; none if it has no such split."""
        for each in training_names(folder):
            start = f'{os.path.relpath(each, self.data_root).replace(os.sep, "/")}/'
            names = {class_of(path[len(start) :]) for path in self._folders if path.startswith(start)}
            if names:
                return tuple(sorted(names))
        return ()

    def scan(self, folder: str) -> Scan:
        """Find the stored images of the split; images that were unreadable when the copy was made are left out."""
        advice = 'make the copy with tools/dataset_tools/store_resized.py --format raw'
        manifest = read_json(os.path.join(self.data_root, MANIFEST_NAME), advice, most=None)
        settings = manifest.get('settings') if isinstance(manifest, dict) else None
        if not isinstance(settings, dict) or settings.get('format') != 'raw':
            raise DataError(f'{self.data_root!r} is not a copy of raw images; {advice}, or read it with ImageFolder')
        if not manifest.get('complete'):
            raise DataError(f'the copy in {self.data_root!r} is not finished; run the same command again to resume')
        start = f'{self.split.strip("/")}/' if self.split else ''
        self._files, self._places, left_out = [], {}, LeftOut()
        for number, (file, places) in enumerate(_tables(self.data_root, manifest, advice)):
            self._files.append(file)
            for path, shape, offset in places:
                self._folders.add(os.path.dirname(path))
                if path.startswith(start):
                    self._places[path[len(start) :]] = {'shard': number, 'shape': shape, 'offset': offset}
        if not self._places:
            raise DataError(f'the copy in {self.data_root!r} holds no image below {self.split!r}; check split')
        for path in manifest.get('skipped', ()):
            if path.startswith(start):
                left_out.add('unreadable when copied', path, expected=True)
        return Scan(sorted(self._places), left_out, [])

    @force_full_init
    def shards(self) -> np.ndarray:
        """Return the number of the shard of each sample, int64 of shape (N,)."""
        return np.array([self.get_data_info(idx)['shard'] for idx in range(len(self))], dtype=np.int64)

    def read_image(self, info: dict) -> dict:
        """Add ``img``, a view of the mapped shard, uint8 of shape (H, W, 3) or (H, W)."""
        number, offset, shape = info['shard'], info['offset'], tuple(info['shape'])
        shard = self._maps.get(number)
        if shard is None:
            try:
                shard = self._maps[number] = np.memmap(self._files[number], dtype=np.uint8, mode='r')
            except OSError as error:
                raise DataError(f'{self._files[number]!r} cannot be read ({error.strerror}); check the disk') from error
        size = int(np.prod(shape))
        info['img'] = np.asarray(shard[offset : offset + size]).reshape(shape)
        return info


def _tables(root: str, manifest: dict[str, Any], advice: str) -> Iterator[tuple[str, list[tuple[str, list, int]]]]:
    """Each shard with path, shape and offset of its images, all inside the shard."""
    source = os.path.join(root, MANIFEST_NAME)
    check_keys(manifest, ('shards',), source, advice)
    shards = manifest['shards']
    if not isinstance(shards, list):
        raise DataError(f"{source!r} is damaged: 'shards' is not a list; {advice}")
    for shard in shards:
        check_keys(shard, ('name', 'bytes'), source, advice)
        file = os.path.join(root, os.path.basename(str(shard['name'])))
        _check_size(file, shard['bytes'])
        table_file = f'{os.path.splitext(file)[0]}.json'
        table = read_json(table_file, advice, ('paths', 'shapes', 'offsets'), most=None)
        try:
            places = list(zip(table['paths'], table['shapes'], table['offsets'], strict=True))
            whole = all(
                isinstance(path, str) and _is_inside(shape, offset, shard['bytes']) for path, shape, offset in places
            )
        except (TypeError, ValueError):
            whole = False
        if not whole:
            raise DataError(f'{table_file!r} is damaged: its columns do not match each other or the shard; {advice}')
        yield file, places


def _is_inside(shape: list[int], offset: int, size: int) -> bool:
    """Whether an image (H, W) or (H, W, 3) lies in a shard of that many bytes."""
    numbers = all(isinstance(number, int) and number >= 0 for number in (*shape, offset))
    return numbers and len(shape) in (2, 3) and offset + math.prod(shape) <= size


def _check_size(file: str, expected: int) -> None:
    found = os.path.getsize(file) if os.path.isfile(file) else None
    if found != expected:
        state = 'is missing' if found is None else f'has {found} bytes, expected {expected}'
        raise DataError(f'{file!r} {state}; run the command that made the copy again to write this shard again')
