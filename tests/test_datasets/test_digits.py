import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmselfsup_graft.datasets import Digits
from mmselfsup_graft.errors import ConfigError


def images(dataset):
    return np.stack([dataset.get_data_info(i)['img'] for i in range(len(dataset))])


def test_split_sizes_balance_and_disjointness():
    train, test, everything = (Digits(split, img_size=8) for split in ('train', 'test', 'all'))
    assert (len(train), len(test), len(everything)) == (1397, 400, 1797)
    assert np.bincount(test.labels()).tolist() == [40] * 10
    assert np.bincount(train.labels()).tolist() == [138, 142, 137, 143, 141, 142, 141, 139, 134, 140]
    joined = sorted(map(bytes, np.concatenate([images(train), images(test)])))
    assert joined == sorted(map(bytes, images(everything)))


def test_split_is_fixed():
    assert np.array_equal(images(Digits('test')), images(Digits('test', seed=5)))
    assert Digits('test').labels()[:10].tolist() == [3, 7, 3, 6, 9, 6, 0, 8, 7, 1]


def test_pixels_are_scaled_to_eight_bits():
    source = load_digits()
    dataset = Digits('all', img_size=8)
    assert np.array_equal(images(dataset), np.rint(source.images * 255 / 16).astype(np.uint8))
    assert np.array_equal(dataset.labels(), source.target)
    large = images(Digits('test'))
    assert large.shape == (400, 16, 16)
    assert large.dtype == np.uint8
    assert large.max() == 255
    assert dataset.classes == tuple('0123456789')


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="'val'"):
        Digits('val')
    with pytest.raises(ConfigError, match='img_size is 0'):
        Digits(img_size=0)
