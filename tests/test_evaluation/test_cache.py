"""The cache of features: what it depends on, and files that went wrong."""

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.evaluation import FeatureCache
from mmselfsup_graft.registry import DATASETS

CONFIG = dict(type='Digits', split='test', img_size=8, indices=4)
ORIGIN = {'weights': 'abc', 'backbone': {'type': 'SelfSupViT'}, 'block': None, 'preprocessor': {}}


class Counting:
    """Features that tell how often they were asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, dataset):
        self.calls += 1
        return np.full((len(dataset), 3), self.calls, np.float32), np.arange(len(dataset))


def folder(root):
    for number in range(3):
        (root / str(number)).mkdir(parents=True)
        Image.new('L', (4, 4)).save(root / str(number) / 'a.png')
    return dict(type='ImageFolder', data_root=str(root))


def test_an_image_that_has_changed_is_noticed(tmp_path):
    config = folder(tmp_path)
    before = FeatureCache(None, ORIGIN).key(config, DATASETS.build(config))
    Image.new('L', (5, 5), 200).save(tmp_path / '1' / 'a.png')
    assert FeatureCache(None, ORIGIN).key(config, DATASETS.build(config)) != before


def test_nothing_is_kept_while_images_cannot_be_read(tmp_path):
    config, calls = folder(tmp_path / 'images'), []

    def extract(dataset):
        calls.append(1)
        return np.zeros((len(dataset) - 1, 3), np.float32), np.zeros(len(dataset) - 1, np.int64)

    for _ in range(2):
        FeatureCache(tmp_path / 'features', ORIGIN).get(config, DATASETS.build(config), extract)
    assert len(calls) == 2
    assert not (tmp_path / 'features').exists()


@pytest.fixture
def data():
    return DATASETS.build(CONFIG)


def test_features_are_made_once(tmp_path, data):
    extract = Counting()
    first = FeatureCache(tmp_path / 'features', ORIGIN).get(CONFIG, data, extract)
    again = FeatureCache(tmp_path / 'features', dict(ORIGIN)).get(CONFIG, DATASETS.build(CONFIG), extract)
    assert extract.calls == 1
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(first, again))
    (file,) = (tmp_path / 'features').iterdir()
    assert file.suffix == '.npz'


def test_no_folder_keeps_nothing(data):
    extract = Counting()
    for _ in range(2):
        FeatureCache(None, ORIGIN).get(CONFIG, data, extract)
    assert extract.calls == 2


@pytest.mark.parametrize('change', [{'weights': 'abd'}, {'backbone': {'type': 'X'}}, {'block': 3}, {'preprocessor': 1}])
def test_another_encoder_has_another_file(change, data):
    assert FeatureCache(None, {**ORIGIN, **change}).key(CONFIG, data) != FeatureCache(None, ORIGIN).key(CONFIG, data)


def test_other_data_has_another_file(data):
    cache = FeatureCache(None, ORIGIN)
    assert cache.key({**CONFIG, 'img_size': 16}, data) != cache.key(CONFIG, data)
    assert cache.key(CONFIG, data.get_subset(2)) != cache.key(CONFIG, data)


def test_a_folder_that_has_changed_is_noticed(tmp_path):
    config = dict(type='ImageFolder', data_root=str(tmp_path))
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        Image.new('L', (4, 4)).save(tmp_path / str(number) / 'a.png')
    before = FeatureCache(None, ORIGIN).key(config, DATASETS.build(config))
    assert FeatureCache(None, ORIGIN).key(config, DATASETS.build(config)) == before
    Image.new('L', (4, 4)).save(tmp_path / '0' / 'b.png')
    assert FeatureCache(None, ORIGIN).key(config, DATASETS.build(config)) != before


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'text', 'other arrays', 'mismatch'])
def test_a_damaged_file_is_made_anew(damage, tmp_path, data):
    cache, extract = FeatureCache(tmp_path, ORIGIN), Counting()
    good = cache.get(CONFIG, data, extract)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == 'other arrays':
        np.savez(path, something=np.ones(3))
    elif damage == 'mismatch':
        np.savez(path, features=good[0], labels=good[1][:2])
    else:
        middle = content.index(good[0].tobytes())
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        path.write_bytes({'cut': content[:-40], 'flipped': flipped, 'empty': b'', 'text': b'no zip file'}[damage])
    again = cache.get(CONFIG, data, extract)
    assert extract.calls == 2
    assert again[0][0, 0] == 2.0
    assert cache.get(CONFIG, data, extract)[0][0, 0] == 2.0
    assert extract.calls == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path, data, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(np, 'savez', fail)
    with pytest.raises(OSError, match='disk full'):
        FeatureCache(tmp_path, ORIGIN).get(CONFIG, data, Counting())
    assert list(tmp_path.iterdir()) == []
