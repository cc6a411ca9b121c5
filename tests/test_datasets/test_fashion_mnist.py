import gzip
import struct

import numpy as np
import pytest
import torchvision

from mmselfsup_graft.datasets import FashionMNIST
from mmselfsup_graft.datasets.image_sets import fashion_mnist
from mmselfsup_graft.datasets.image_sets.fashion_mnist import read_idx
from mmselfsup_graft.errors import ConfigError, DataError

IMAGES = np.random.RandomState(0).randint(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 3, 3, 1], dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_system_files(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, 'DEBIAN_FOLDER', str(tmp_path / 'debian'))

    def download(*args, **kwargs):
        raise RuntimeError('no\nnetwork')

    monkeypatch.setattr(torchvision.datasets, 'FashionMNIST', download)


def idx(array):
    return struct.pack(f'>BBBB{array.ndim}i', 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder, stem, packed, images=IMAGES, labels=LABELS):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f'{stem}-images-idx3-ubyte', images), (f'{stem}-labels-idx1-ubyte', labels)):
        content = gzip.compress(idx(array)) if packed else idx(array)
        (folder / (name + '.gz' * packed)).write_bytes(content)


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('place', ['data', 'data/raw', 'data/FashionMNIST/raw', 'debian'])
def test_files_are_found_and_read(tmp_path, place, packed):
    write(tmp_path / place, 'train', packed)
    write(tmp_path / place, 't10k', packed, IMAGES[3:], LABELS[3:])
    train = FashionMNIST(str(tmp_path / 'data'))
    assert np.array_equal([train.get_data_info(i)['img'] for i in range(5)], IMAGES)
    assert train.labels().tolist() == LABELS.tolist()
    assert train.classes[9] == 'Ankle boot'
    assert len(train.classes) == 10
    assert FashionMNIST(str(tmp_path / 'data'), 'test').labels().tolist() == [3, 1]


def test_own_files_win(tmp_path):
    write(tmp_path / 'data', 'train', False)
    write(tmp_path / 'debian', 'train', True, labels=LABELS[::-1])
    assert FashionMNIST(str(tmp_path / 'data')).labels()[0] == 9


def test_missing_files_name_both_ways_in_one_line(tmp_path):
    with pytest.raises(DataError, match=r'idx files.*dataset-fashion-mnist') as caught:
        FashionMNIST(str(tmp_path / 'data'))
    assert 'no network' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_download_is_the_last_resort(tmp_path, monkeypatch):
    def download(root, download):
        assert download
        write(tmp_path / 'data' / 'FashionMNIST' / 'raw', 'train', False)

    monkeypatch.setattr(torchvision.datasets, 'FashionMNIST', download)
    assert len(FashionMNIST(str(tmp_path / 'data'))) == 5


def test_damaged_files_are_named(tmp_path):
    for name, content in [
        ('cut', idx(IMAGES)[:-1]),
        ('other', b'\x00\x00\x0d\x01' + bytes(8)),
        ('short', b'\x00'),
        ('header', b'\x00\x00\x08\x03\x00\x00'),
        ('broken.gz', gzip.compress(idx(IMAGES))[:-20]),
        ('plain.gz', b'text'),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f'{name}.*fetch it again'):
            read_idx(str(tmp_path / name))
    write(tmp_path / 'data', 'train', False, labels=LABELS[:4])
    with pytest.raises(DataError, match='the numbers differ'):
        FashionMNIST(str(tmp_path / 'data'))
    with pytest.raises(ConfigError, match="'val'"):
        FashionMNIST(split='val')
