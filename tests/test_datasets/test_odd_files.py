"""Pipes, sockets, devices, folders and broken links among images: left out or refused, never waited for."""

import io
import json
import os
import signal
import socket
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_datasets.shard_data import archives_of, png
from test_tools.tiny_runs import call_tool

from mmselfsup_graft.analysis.reconstruction.report import images_of_files
from mmselfsup_graft.datasets import ImageFolder, ImageList, RawShards, TarShards
from mmselfsup_graft.datasets.scanning import Scan
from mmselfsup_graft.datasets.shards.make_shards import index_shards, make_shards
from mmselfsup_graft.datasets.shards.stored_copy import store_resized
from mmselfsup_graft.datasets.skipped_files import LeftOut
from mmselfsup_graft.errors import DataError

PIPELINE = [dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]
GOOD = ('a.png', 'b.jpg', 'link.jpg', 'x.jpg/inside.png')
ODD = ('dangling.jpg', 'device.jpg', 'loop.jpg', 'pipe.jpg', 'self', 'socket.jpg', 'up')


@pytest.fixture(autouse=True)
def _never_waits() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def stop(*_: object) -> None:
        raise TimeoutError('a reader waits')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images among everything that a file system can hold."""
    root = tmp_path / 'images'
    (root / 'x.jpg').mkdir(parents=True)
    for number, name in enumerate(('a.png', 'b.jpg', 'x.jpg/inside.png')):
        (root / name).write_bytes(png(number))
    (root / 'link.jpg').symlink_to('a.png')
    (root / 'self').symlink_to('self')
    (root / 'loop.jpg').symlink_to('loop.jpg')
    (root / 'dangling.jpg').symlink_to('nothing')
    (root / 'up').symlink_to('.', target_is_directory=True)
    (root / 'device.jpg').symlink_to('/dev/zero')
    for name in ('pipe.jpg', 'list.txt'):
        os.mkfifo(root / name)
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root)
    listener.bind('socket.jpg')
    os.chdir(here)
    listener.close()
    return root


def paths(dataset: ImageFolder, root: Path) -> list[str]:
    return [os.path.relpath(dataset.get_data_info(number)['img_path'], root) for number in range(len(dataset))]


def test_a_folder_is_read_and_the_rest_counted(folder: Path) -> None:
    with pytest.raises(DataError, match=r'6 of 10 would be left out.*pipe 1 \(pipe\.jpg\)'):
        ImageFolder(str(folder))
    data = ImageFolder(str(folder), max_left_out=1)
    assert paths(data, folder) == list(GOOD)
    assert data.left_out.counts() == {
        'link in a loop': 2,
        'link to nothing': 1,
        'device': 1,
        'pipe': 1,
        'socket': 1,
        'link to a folder above it': 1,
    }
    assert sum(data.left_out.counts().values()) == len(ODD)


def test_a_folder_without_odd_entries_counts_nothing(image_folder) -> None:
    data = ImageFolder(str(image_folder('a/1.png', 'b/2.png')))
    assert (len(data), len(data.left_out)) == (2, 0)


def test_links_between_folders(image_folder) -> None:
    root = image_folder('a/1.png', 'b/2.png')
    (root / 'a' / 'to_b').symlink_to('../b')
    (root / 'b' / 'to_a').symlink_to('../a')
    found = ['a/1.png', 'a/to_b/2.png', 'b/2.png', 'b/to_a/1.png']
    data = ImageFolder(str(root))
    assert paths(data, root) == found
    assert data.left_out.counts() == {'link to a folder above it': 2}


@pytest.mark.parametrize('fast', [False, 'cpu'])
@pytest.mark.parametrize('backend_args', [None, dict(backend='local')])
def test_a_list_skips_and_counts_them(folder: Path, fast: bool | str, backend_args: dict | None) -> None:
    names = ['a.png', *ODD, 'x.jpg', 'nothing.jpg', 'b.jpg']
    (folder.parent / 'list.txt').write_text(''.join(f'images/{name} 0\n' for name in names))
    load = dict(type='LoadImage', backend_args=backend_args)
    crop = dict(type='mmpretrain.torchvision/RandomResizedCrop', size=8)
    pipeline = [load, crop, dict(type='mmpretrain.PackInputs')]
    data = ImageList(str(folder.parent), 'list.txt', pipeline=pipeline, fast=fast, max_left_out=1)
    assert [data[number]['inputs'].shape for number in range(len(data))] == [(3, 8, 8)] * (len(names) - 1)
    assert data.left_out.counts() == {'missing': 1}  # nothing.jpg
    assert data.num_corrupt == len(names) - 3
    names.remove('nothing.jpg')
    (folder.parent / 'list.txt').write_text(''.join(f'images/{name} 0\n' for name in names))
    strict = ImageList(str(folder.parent), 'list.txt', pipeline=pipeline, fast=fast, on_corrupt='raise')
    with pytest.raises(DataError, match=r'pipe\.jpg'):
        strict[names.index('pipe.jpg')]


@pytest.mark.parametrize('first', ['pipe.jpg', 'loop.jpg', 'x.jpg'])
def test_a_list_whose_first_image_is_none(first: str, folder: Path) -> None:
    (folder.parent / 'list.txt').write_text(f'{first} 0\na.png 0\n')
    with pytest.raises(DataError, match=first):
        ImageList(str(folder), str(folder.parent / 'list.txt'))


def test_a_pipe_as_list(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'list\.txt'):
        ImageList(str(folder), 'list.txt')
    options = ('--list', folder / 'list.txt', '--per-class', 1, '--out', tmp_path / 'out.txt')
    done = call_tool('dataset_tools/make_split', *options)
    assert done.code == 1
    assert str(folder / 'list.txt') in done.error()
    assert not (tmp_path / 'out.txt').exists()


def test_stored_copies(folder: Path, tmp_path: Path) -> None:
    (folder / 'labels.txt').write_text('labels')
    store_resized(folder, tmp_path / 'files', short_side=8, max_left_out=1)
    assert paths(ImageFolder(str(tmp_path / 'files')), tmp_path / 'files') == list(GOOD)
    assert (tmp_path / 'files' / 'labels.txt').read_text() == 'labels'
    assert not (tmp_path / 'files' / 'list.txt').exists()


def test_raw_copies_and_archives(folder: Path, tmp_path: Path) -> None:
    store_resized(folder, tmp_path / 'raw', form='raw', max_left_out=1)
    assert len(RawShards(str(tmp_path / 'raw'))) == len(GOOD)
    make_shards(folder, tmp_path / 'tar', max_left_out=1)
    assert len(TarShards(str(tmp_path / 'tar'))) == len(GOOD)


def test_a_file_that_became_a_pipe_meanwhile(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Scan(['a.png', 'pipe.jpg'], LeftOut(), [])
    monkeypatch.setattr('mmselfsup_graft.datasets.shards.stored_copy.scan_folder', lambda _: found)
    manifest = store_resized(folder, tmp_path / 'copy')
    assert list(manifest['skipped']) == ['pipe.jpg']
    monkeypatch.setattr('mmselfsup_graft.datasets.image_sets.image_folder.scan_folder', lambda *_: found)
    with pytest.raises(DataError, match=r'pipe\.jpg'):
        make_shards(folder, tmp_path / 'tar')


@pytest.mark.parametrize('name', ['pipe.jpg', 'socket.jpg', 'loop.jpg', 'device.jpg'])
def test_pictures_to_reconstruct(name: str, folder: Path) -> None:
    with pytest.raises(DataError, match=name):
        images_of_files([folder / name], PIPELINE, 1)
    assert len(images_of_files([folder], PIPELINE, 9)) == len(GOOD)


def test_an_image_of_too_many_pixels_is_not_decoded(image_folder, tmp_path: Path) -> None:
    root = image_folder('good.png')
    content = bytearray((root / 'good.png').read_bytes())
    content[16:24] = (60_000).to_bytes(4, 'big') * 2  # width and height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    (root / 'bomb.png').write_bytes(content)
    crop = dict(type='mmpretrain.torchvision/RandomResizedCrop', size=8)
    for fast in (False, 'cpu'):
        pipeline = [dict(type='LoadImage'), crop, dict(type='mmpretrain.PackInputs')]
        data = ImageFolder(str(root), pipeline=pipeline, fast=fast)
        assert len([data[number] for number in range(2)]) == 2
        assert data.corrupt_files() == [str(root / 'bomb.png')]
    manifest = store_resized(root, tmp_path / 'copy')
    assert list(manifest['skipped']) == ['bomb.png']


# ---------------------------------------------------------------- archives
def test_members_that_are_no_regular_files_are_left_out(tmp_path: Path) -> None:
    kinds = {'soft': tarfile.SYMTYPE, 'hard': tarfile.LNKTYPE, 'pipe': tarfile.FIFOTYPE, 'device': tarfile.CHRTYPE}
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f'{name}.png')
            member.type, member.linkname = kind, '/etc/passwd'
            archive.addfile(member)
        member = tarfile.TarInfo('good.png')
        member.size = len(png(1))
        archive.addfile(member, io.BytesIO(png(1)))
        folder = tarfile.TarInfo('folder.png')
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    with pytest.raises(DataError, match=r'4 of 5 would be left out.*special file 4 \(soft\.png, hard\.png, '):
        index_shards(str(tmp_path))
    (shard,) = index_shards(str(tmp_path), max_left_out=1)
    assert shard.keys == ['good']
    data = TarShards(str(tmp_path), max_left_out=1, pipeline=[dict(type='LoadImage')])
    assert np.array_equal(np.asarray(data[0]['img']), np.asarray(Image.open(io.BytesIO(png(1)))))


@pytest.mark.parametrize('cached', [False, True])
def test_an_archive_that_is_a_pipe(cached: bool, tmp_path: Path) -> None:
    shards = archives_of(tmp_path, 3)
    (archive,) = shards.glob('*.tar')
    archive.unlink()
    os.mkfifo(archive)
    options = {'cache_dir': str(tmp_path / 'cache')} if cached else {}
    data = TarShards(str(shards), pipeline=PIPELINE, **options)
    with pytest.raises(DataError, match=archive.name):
        data[0]
    with pytest.raises(DataError, match=archive.name):
        index_shards(str(shards), overwrite=True)


@pytest.mark.parametrize(
    'change',
    [
        {'name': '../outside.tar'},
        {'name': '/etc/passwd'},
        {'name': 'a\0.tar'},
        {'name': 7},
        {'offsets': [-1] * 3},
        {'offsets': [0] * 3},
        {'sizes': ['1'] * 3},
        {'sizes': [10**15] * 3},
        {'bytes': 100},
        {'labels': [None] * 3},
        {'keys': [1, 2, 3]},
        {'keys': 5},
        {'more': 1},
        {'ignored': 5},
        {'examples': {'.heic': [1]}},
        {'ignored': {'.heic': 'two'}},
    ],
    ids=lambda change: ' '.join(f'{key} {value}' for key, value in change.items()).replace('\0', '0'),
)
def test_a_damaged_index(change: dict, tmp_path: Path) -> None:
    shards = archives_of(tmp_path, 3)
    content = json.loads((shards / 'index.json').read_text())
    content['shards'][0] |= change
    (shards / 'index.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'index\.json'):
        TarShards(str(shards))


@pytest.mark.parametrize(
    ('file', 'change'),
    [
        ('manifest.json', {'shards': None}),
        ('manifest.json', {'shards': [{}]}),
        ('manifest.json', {'settings': []}),
        ('images-000000.json', {'paths': ['a.png']}),
        ('images-000000.json', {'shapes': [[10**9, 10**9, 3]] * 3}),
        ('images-000000.json', {'shapes': [5] * 3}),
        ('images-000000.json', {'offsets': [-1] * 3}),
        ('images-000000.json', {'offsets': None}),
    ],
)
def test_damaged_tables_of_a_raw_copy(file: str, change: dict, image_folder, tmp_path: Path) -> None:
    store_resized(image_folder('a.png', 'b.png', 'c.png'), tmp_path / 'copy', form='raw')
    path = tmp_path / 'copy' / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=str(tmp_path / 'copy')):
        RawShards(str(tmp_path / 'copy'))
