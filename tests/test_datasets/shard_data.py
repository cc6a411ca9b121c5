"""Folders of generated images and archives of them, for the tests of everything in shards."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets import TarShards
from mmselfsup_graft.datasets.shards.make_shards import make_shards


def picture(number: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """An image that differs from that of any other number, uint8 of shape (height, width, 3)."""
    return np.random.RandomState(number).randint(0, 256, (*size, 3), dtype=np.uint8)


def png(number: int, size: tuple[int, int] = (12, 10)) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(number, size)).save(buffer, format='PNG')
    return buffer.getvalue()


def folder_of(root: Path, count: int, classes: int = 2) -> Path:
    """``root/train/cN/NN.png``: image ``number`` in class ``number % classes``."""
    for number in range(count):
        path = root / 'train' / f'c{number % classes}' / f'{number:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return root


def archives_of(root: Path, count: int, per_shard: int = 5, **options: object) -> Path:
    """Archives of such a folder, and their index, in ``root/shards``."""
    folder_of(root, count)
    make_shards(root, root / 'shards', split='train', per_shard=per_shard, **options)
    return root / 'shards'


def write_tar(path: Path, members: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Path:
    """Write an archive, as a foreign tool would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, 'w') as archive:
        for name, content in items:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def keep(info: dict) -> dict:
    """A transform that makes the sample: the image as an array, its label and its name."""
    name = info['img_path'].rpartition('/')[2].partition('.')[0]
    return {'img': np.asarray(info['img']), 'label': info.get('gt_label', -1), 'name': name}


PIPELINE = [dict(type='LoadImage'), keep]


def open_shards(root: Path | str, **options: object) -> TarShards:
    """The data set with decoded images as samples."""
    return TarShards(str(root), pipeline=PIPELINE, **options)
