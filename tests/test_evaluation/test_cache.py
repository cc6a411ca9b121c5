"""The cache of features: what it depends on, and files that went wrong."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.evaluation import Embedded, FeatureCache
from mmselfsup_graft.registry import DATASETS

CONFIG = dict(type='Digits', split='test', img_size=8, indices=4)
OWN = ['class_token']
ORIGIN = {'weights': 'abc', 'backbone': {'type': 'SelfSupViT'}, 'block': None, 'preprocessor': {}}


class Counting:
    """Features that tell how often they were asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, dataset, features):
        self.calls += 1
        rows = {name: np.full((len(dataset), 3), self.calls, np.float32) for name in features}
        return Embedded(rows, np.asarray(dataset.labels()), np.arange(len(dataset)))


def key(config, dataset, origin=ORIGIN):
    return FeatureCache(None, origin).keys(config, dataset, OWN)['class_token']


def folder(root):
    for number in range(3):
        (root / str(number)).mkdir(parents=True)
        Image.new('L', (4, 4)).save(root / str(number) / 'a.png')
    return dict(type='ImageFolder', data_root=str(root))


def test_an_image_that_has_changed_is_noticed(tmp_path):
    config = folder(tmp_path)
    before = key(config, DATASETS.build(config))
    Image.new('L', (5, 5), 200).save(tmp_path / '1' / 'a.png')
    assert key(config, DATASETS.build(config)) != before


def test_nothing_is_kept_while_images_cannot_be_read(tmp_path):
    config, calls = folder(tmp_path / 'images'), []

    def extract(dataset, features):
        calls.append(1)
        read = np.arange(1, len(dataset))
        return Embedded({'class_token': np.zeros((len(read), 3), np.float32)}, np.zeros_like(read), read)

    for _ in range(2):
        found = FeatureCache(tmp_path / 'features', ORIGIN).get(config, DATASETS.build(config), OWN, extract)
        assert found.indices.tolist() == [1, 2]
    assert len(calls) == 2
    assert not (tmp_path / 'features').exists()


@pytest.fixture
def data():
    return DATASETS.build(CONFIG)


def test_features_are_made_once(tmp_path, data):
    extract = Counting()
    first = FeatureCache(tmp_path / 'features', ORIGIN).get(CONFIG, data, OWN, extract)
    again = FeatureCache(tmp_path / 'features', dict(ORIGIN)).get(CONFIG, DATASETS.build(CONFIG), OWN, extract)
    assert extract.calls == 1
    for a, b in zip((first.features['class_token'], *first[1:]), (again.features['class_token'], *again[1:])):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype
    (file,) = (tmp_path / 'features').iterdir()
    assert file.suffix == '.npz'


def test_several_features_by_one_pass_and_a_file_each(tmp_path, data):
    extract, cache = Counting(), FeatureCache(tmp_path, ORIGIN)
    assert cache.get(CONFIG, data, ['patch_mean', 'class_token'], extract).features.keys() == {
        'patch_mean',
        'class_token',
    }
    assert len(list(tmp_path.iterdir())) == 2
    both = cache.get(CONFIG, data, ['both'], extract)
    assert both.features['both'].shape == (4, 6)
    assert extract.calls == 1


def test_images_without_labels(tmp_path, data):
    def extract(dataset, features):
        return Embedded({name: np.ones((len(dataset), 3)) for name in features}, None, np.arange(len(dataset)))

    cache = FeatureCache(tmp_path, ORIGIN)
    cache.get(CONFIG, data, OWN, extract)
    again = cache.get(CONFIG, data, OWN, None)
    assert again.labels is None
    assert again.features['class_token'].shape == (4, 3)


def test_no_folder_keeps_nothing(data):
    extract = Counting()
    for _ in range(2):
        FeatureCache(None, ORIGIN).get(CONFIG, data, OWN, extract)
    assert extract.calls == 2


@pytest.mark.parametrize('change', [{'weights': 'abd'}, {'backbone': {'type': 'X'}}, {'block': 3}, {'preprocessor': 1}])
def test_another_encoder_has_another_file(change, data):
    assert key(CONFIG, data, {**ORIGIN, **change}) != key(CONFIG, data)


def test_other_data_has_another_file(data):
    assert key({**CONFIG, 'img_size': 16}, data) != key(CONFIG, data)
    assert key(CONFIG, data.get_subset(2)) != key(CONFIG, data)


def test_a_folder_that_has_changed_is_noticed(tmp_path):
    config = dict(type='ImageFolder', data_root=str(tmp_path))
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        Image.new('L', (4, 4)).save(tmp_path / str(number) / 'a.png')
    before = key(config, DATASETS.build(config))
    assert key(config, DATASETS.build(config)) == before
    Image.new('L', (4, 4)).save(tmp_path / '0' / 'b.png')
    assert key(config, DATASETS.build(config)) != before


def declared_only(shape: tuple[int, ...]) -> bytes:
    """A file that says that it holds this many numbers, and holds none."""
    head, whole = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, dict(descr='<f4', fortran_order=False, shape=shape))
    with zipfile.ZipFile(whole, 'w') as archive:
        archive.writestr('features.npy', head.getvalue())
    return whole.getvalue()


OTHER = {
    'other arrays': lambda path, rows, labels: np.savez(path, something=np.ones(3)),
    'mismatch': lambda path, rows, labels: np.savez(path, features=rows, labels=labels[:2]),
    'other labels': lambda path, rows, labels: np.savez(path, features=rows, labels=labels + 1),
    'labels of another kind': lambda path, rows, labels: np.savez(path, features=rows, labels=labels.astype(float)),
    'compressed': lambda path, rows, labels: np.savez_compressed(path, features=rows, labels=labels),
    'complex': lambda path, rows, labels: np.savez(path, features=rows * 1j, labels=labels),
    'objects': lambda path, rows, labels: np.savez(path, features=rows.astype(object), labels=labels),
    'nothing behind the header': lambda path, rows, labels: path.write_bytes(declared_only((len(rows), 2**50))),
}


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'text', *OTHER])
def test_a_damaged_file_is_made_anew(damage, tmp_path, data):
    cache, extract = FeatureCache(tmp_path, ORIGIN), Counting()
    good = cache.get(CONFIG, data, OWN, extract)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage in OTHER:
        OTHER[damage](path, good.features['class_token'], good.labels)
    else:
        middle = content.index(good.features['class_token'].tobytes())
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        path.write_bytes({'cut': content[:-40], 'flipped': flipped, 'empty': b'', 'text': b'no zip file'}[damage])
    again = cache.get(CONFIG, data, OWN, extract)
    assert extract.calls == 2
    assert again.features['class_token'][0, 0] == 2.0
    assert cache.get(CONFIG, data, OWN, extract).features['class_token'][0, 0] == 2.0
    assert extract.calls == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path, data, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(np, 'savez', fail)
    with pytest.raises(OSError, match='disk full'):
        FeatureCache(tmp_path, ORIGIN).get(CONFIG, data, OWN, Counting())
    assert list(tmp_path.iterdir()) == []
