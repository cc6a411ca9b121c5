"""Windows of the photographs that come with scikit-learn and scikit-image."""

import re
import socket
from pathlib import Path

import numpy as np
import pytest
import skimage
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

from mmselfsup_graft.datasets import SamplePhotos
from mmselfsup_graft.datasets.image_sets import sample_photos
from mmselfsup_graft.datasets.image_sets.sample_photos import PHOTOS, sample_photo
from mmselfsup_graft.errors import ConfigError, DataError

COLOUR = dict(library='scikit-image', channels=3)


def test_test_windows_tile_the_photograph() -> None:
    data = SamplePhotos(split='test', window=16, height=64)
    photo = sample_photo('flower.jpg', 64, 1)
    columns = photo.shape[1] // 16
    assert len(data) == 4 * columns
    np.testing.assert_array_equal(data.get_data_info(columns + 2)['img'], photo[16:32, 32:48])


def test_training_windows_overlap_and_have_no_labels() -> None:
    data = SamplePhotos(split='train', window=16, height=64, stride=8, channels=3)
    photo = sample_photo('china.jpg', 64, 3)
    np.testing.assert_array_equal(data.get_data_info(1)['img'], photo[:16, 8:24])
    assert data.labels() is None


def test_photographs_are_those_of_the_libraries() -> None:
    np.testing.assert_array_equal(sample_photo('china.jpg', 427, 3), load_sample_image('china.jpg'))
    np.testing.assert_array_equal(sample_photo('chelsea.png', 300, 3, 'scikit-image'), skimage.data.chelsea())
    gray = sample_photo('chelsea.png', 30, 1, 'scikit-image')
    assert gray.shape == (30, 45)


def test_windows_of_all_photographs_of_a_split_in_order() -> None:
    data = SamplePhotos(split='train', window=32, height=64, stride=16, **COLOUR)
    expected = []
    for name in PHOTOS['scikit-image']['train']:
        photo = sample_photo(name, 64, 3, 'scikit-image')
        expected += [photo[y : y + 32, x : x + 32] for y in (0, 16, 32) for x in range(0, photo.shape[1] - 31, 16)]
    np.testing.assert_array_equal([data.get_data_info(i)['img'] for i in range(len(data))], expected)
    test = SamplePhotos(split='test', window=32, height=64, **COLOUR)
    assert len(test) == sum(
        2 * (sample_photo(n, 64, 3, 'scikit-image').shape[1] // 32) for n in PHOTOS['scikit-image']['test']
    )


def test_photographs_of_several_libraries_one_after_the_other() -> None:
    sizes = dict(split='test', window=32, height=64, channels=3)
    both, *each = (
        SamplePhotos(library=library, **sizes)
        for library in (['scikit-image', 'scikit-learn'], 'scikit-image', 'scikit-learn')
    )
    expected = [data.get_data_info(i)['img'] for data in each for i in range(len(data))]
    np.testing.assert_array_equal([both.get_data_info(i)['img'] for i in range(len(both))], expected)


def test_held_out_photographs_are_others_and_all_lie_in_the_package(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError('the network was asked')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    for splits in PHOTOS.values():
        assert not set(splits['train']) & set(splits['test'])
    folder = Path(skimage.__file__).parent / 'data'
    for name in [*PHOTOS['scikit-image']['train'], *PHOTOS['scikit-image']['test']]:
        with Image.open(folder / name) as photo:
            assert photo.mode == 'RGB', name
        assert sample_photo(name, 8, 3, 'scikit-image').shape[2] == 3


def test_a_library_without_its_photographs_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sample_photos._FOLDERS, 'scikit-image', ('skimage', 'util'))
    with pytest.raises(DataError, match=r'astronaut\.png.*pip install --force-reinstall scikit-image'):
        SamplePhotos(window=8, height=8, **COLOUR)


@pytest.mark.parametrize(
    'options',
    [
        {'split': 'val'},
        {'window': 65, 'height': 64},
        {'window': 0},
        {'library': 'scipy'},
        {'library': ['scikit-learn', 'scipy']},
        {'library': []},
        {'channels': 2},
        {'stride': 0},
    ],
)
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match='SamplePhotos: .*' + re.escape(repr(next(iter(options.values()))))):
        SamplePhotos(**options)
