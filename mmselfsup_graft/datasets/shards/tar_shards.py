"""Images in tar archives, on a disk or in an object store."""

import os
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import force_full_init

from mmselfsup_graft.datasets.fast import Gathered
from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.registry import DATASETS

from .shard_cache import ShardCache
from .shard_index import HEADER_BYTES, INDEX_NAME, parse_index
from .stores import Piece, Store

# Largest gap between two images of one request; between neighbors (padding, a label) it is far smaller, and
# a request costs more than this many bytes.
_GAP = 64 * 1024


@DATASETS.register_module()
class TarShards(SelfSupDataset):
    """The images of archives in webdataset's layout (``key.jpg`` beside ``key.cls``), found by an index.

    A map-style dataset: every sample has a number, so it is seen exactly once per epoch over all ranks and workers, is
    augmented as a function of (seed, epoch, index), and a resumed run continues where it stopped. An image is one
    ranged read; the images of a batch are requested together, neighbors in an archive by one request. Use it with
    :class:`ShardSampler`, whose order puts neighbors into one batch.

    ``tools/dataset_tools/make_shards.py`` writes archives and index, or the index of existing archives. Other members
    (``key.json`` …) are not read, and nothing is unpickled.

    Args:
        data_root: Folder or address (``s3://``, ``gs://``, ``https://`` … as fsspec takes it) of the archives.
        ann_file: The index, relative to ``data_root``, an absolute path or an address.
        storage_options: Arguments of fsspec's file system, e.g. ``dict(anon=True)``.
        cache_dir: Local folder in which whole archives are kept; ``None``: only what is needed is read.
        cache_bytes: Limit of that folder in bytes; it must hold the archives in use, see :class:`ShardSampler`.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: The kind of address is unknown or its package not installed.
        DataError: Index or archive are missing or do not fit each other, or the store cannot be reached. Such
            errors end a run whatever ``on_corrupt`` is; it applies to images that cannot be decoded.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str = INDEX_NAME,
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | None = None,
        cache_bytes: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.store = Store(data_root, storage_options)
        self.index_file = str(ann_file)
        self.cache = None if cache_dir is None else ShardCache(cache_dir, cache_bytes)
        self._names: list[str] = []
        self._sizes: dict[str, int] = {}
        self._fetched: dict[int, bytes] = {}
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the index."""
        source, content = self._read_index()
        shards, classes = parse_index(content, source)
        self._names = [shard.name for shard in shards]
        self._sizes = {shard.name: shard.bytes for shard in shards}
        samples: list[dict] = []
        for number, shard in enumerate(shards):
            for key, kind, offset, size, label in zip(
                shard.keys, shard.kinds, shard.offsets, shard.sizes, shard.labels, strict=True
            ):
                path = f'{self.data_root.rstrip("/")}/{shard.name}/{key}.{kind}'  # a name, not a file
                sample = {'img_path': path, 'shard': number, 'offset': offset, 'size': size}
                if label >= 0:
                    sample['gt_label'] = label
                samples.append(sample)
            self.left_out.update(shard.left_out())
        if not samples:
            raise DataError(f'{source} lists no image; make it again with tools/dataset_tools/make_shards.py')
        if classes is not None:
            self._metainfo['classes'] = classes
        return samples

    def _read_index(self) -> tuple[str, bytes]:
        if '://' in self.index_file or os.path.isabs(self.index_file):
            folder, _, name = self.index_file.rpartition('/')
            same = self.index_file.partition('://')[0] == self.data_root.partition('://')[0]
            return self.index_file, Store(folder or '/', self.store.options if same else None).read(name)
        return self.store.address(self.index_file), self.store.read(self.index_file)

    @force_full_init
    def shards(self) -> np.ndarray:
        """Return the number of the archive of each sample, int64 of shape (N,)."""
        return np.array([self.get_data_info(idx)['shard'] for idx in range(len(self))], dtype=np.int64)

    def __getitems__(self, indices: Sequence[int]) -> list[dict] | Gathered:
        """Return several processed samples, whose images are requested together."""
        size = len(self)
        numbers = list(dict.fromkeys(idx % size for idx in indices))
        images = self._read([self.get_data_info(number) for number in numbers])
        self._fetched = dict(zip(numbers, images, strict=True))
        try:
            return super().__getitems__(indices)
        finally:
            self._fetched = {}

    def read_image(self, info: dict) -> dict:
        """Add ``img_bytes``, the content of the image file."""
        content = self._fetched.get(info['sample_idx'])
        info['img_bytes'] = self._read([info])[0] if content is None else content
        return info

    def _read(self, infos: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Read images, each with the header before it, which shows whether the index fits."""
        spans = [(info['shard'], info['offset'] - HEADER_BYTES, info['offset'] + info['size']) for info in infos]
        pieces: list[Piece] = []
        place = [0] * len(spans)
        for number in sorted(range(len(spans)), key=spans.__getitem__):
            shard, start, end = spans[number]
            name = self._names[shard]
            if pieces and pieces[-1].name == name and start - pieces[-1].end <= _GAP:
                pieces[-1] = pieces[-1]._replace(end=max(end, pieces[-1].end))
            else:
                pieces.append(Piece(name, start, end))
            place[number] = len(pieces) - 1
        if self.cache is None:
            contents = self.store.read_pieces(pieces)
        else:
            contents = self.cache.read_pieces(self.store, pieces, self._sizes)
        images = []
        for (_, start, end), number, info in zip(spans, place, infos, strict=True):
            begin = start - pieces[number].start
            member = memoryview(contents[number])[begin : begin + end - start]
            self._check(bytes(member[:HEADER_BYTES]), info)
            images.append(bytes(member[HEADER_BYTES:]))
        return images

    def _check(self, header: bytes, info: Mapping[str, Any]) -> None:
        try:
            member = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, 'surrogateescape')
            fits = member.size == info['size']
        except tarfile.HeaderError:
            fits = False
        if not fits:
            raise DataError(
                f'{info["img_path"]} is not at its place in the index: the archive is another one or damaged; make '
                'the index again with tools/dataset_tools/make_shards.py --index-only'
            )
