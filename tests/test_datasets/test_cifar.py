"""CIFAR's binary files, generated small."""

import pickle

import numpy as np
import pytest

from mmselfsup_graft.datasets import CIFAR
from mmselfsup_graft.errors import ConfigError, DataError

FOLDERS = {10: 'cifar-10-batches-bin', 100: 'cifar-100-binary'}
TRAIN = {10: [f'data_batch_{number}.bin' for number in range(1, 6)], 100: ['train.bin']}
TEST = {10: 'test_batch.bin', 100: 'test.bin'}


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def write(path, classes, pictures, labels):
    """One file, written byte by byte as the format's page describes it: planes of red, green, blue, row by row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytearray()
    for picture, label in zip(pictures, labels):
        content += bytes([label]) if classes == 10 else bytes([label // 5, label])
        for channel in range(3):
            content += bytes(picture[:, :, channel].flatten().tolist())
    path.write_bytes(bytes(content))


@pytest.mark.parametrize('below', [True, False])
@pytest.mark.parametrize('classes', [10, 100])
def test_records_are_read_in_order(tmp_path, classes, below):
    folder = tmp_path / FOLDERS[classes] if below else tmp_path
    for number, name in enumerate(TRAIN[classes]):
        write(folder / name, classes, images(2, number), [number, classes - 1 - number])
    write(folder / TEST[classes], classes, images(3, 9), [1, 2, 3])
    train = CIFAR(str(tmp_path), classes=classes)
    expected = np.concatenate([images(2, number) for number in range(len(TRAIN[classes]))])
    np.testing.assert_array_equal([train.get_data_info(i)['img'] for i in range(len(train))], expected)
    assert train.labels().tolist() == [x for n in range(len(TRAIN[classes])) for x in (n, classes - 1 - n)]
    test = CIFAR(str(tmp_path), classes=classes, split='test')
    np.testing.assert_array_equal(test.get_data_info(2)['img'], images(3, 9)[2])
    assert test.labels().tolist() == [1, 2, 3]
    assert len(test.classes) == classes


@pytest.mark.parametrize('classes', [10, 100])
def test_names_come_from_their_file(tmp_path, classes):
    folder = tmp_path / FOLDERS[classes]
    write(folder / TEST[classes], classes, images(1), [3])
    assert CIFAR(str(tmp_path), classes, 'test').classes[3] == '3'
    names = [f'class {number}' for number in range(classes)]
    file = {10: 'batches.meta.txt', 100: 'fine_label_names.txt'}[classes]
    (folder / file).write_text('\n'.join(names) + '\n\n')  # the release ends with a blank line
    assert CIFAR(str(tmp_path), classes, 'test').classes == tuple(names)
    turned = CIFAR(str(tmp_path), classes, 'test', metainfo={'classes': names[::-1]})
    assert turned.classes == tuple(names[::-1])
    assert (turned.labels() == classes - 1 - CIFAR(str(tmp_path), classes, 'test').labels()).all()
    with pytest.raises(DataError, match=r'has images of .class .*not among'):
        CIFAR(str(tmp_path), classes, 'test', metainfo={'classes': ('a', 'b')})


def test_a_pipeline_gets_color_images(tmp_path):
    write(tmp_path / 'train.bin', 100, images(2), [0, 99])
    pipeline = [dict(type='LoadImage', channels=3), dict(type='mmpretrain.PackInputs')]
    sample = CIFAR(str(tmp_path), pipeline=pipeline)[1]
    np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0).numpy(), images(2)[1])


@pytest.mark.parametrize('classes', [10, 100])
def test_missing_files_say_where_to_get_them(tmp_path, classes):
    with pytest.raises(DataError, match=f'CIFAR-{classes}.*cifar-{classes}-binary.tar.gz') as caught:
        CIFAR(str(tmp_path), classes)
    assert 'Python' not in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('classes', 'place'), [(10, 'cifar-10-batches-py/data_batch_1'), (100, 'cifar-100-python/train')]
)
def test_pickles_are_not_read_and_the_error_says_why(tmp_path, classes, place):
    path = tmp_path / place
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({}))
    for root in (tmp_path, path.parent):
        with pytest.raises(DataError, match=r'binary version.*pickles are not read because they can run code'):
            CIFAR(str(root), classes)


def test_an_incomplete_set_of_files_is_refused(tmp_path):
    for name in TRAIN[10][:4]:
        write(tmp_path / name, 10, images(1), [0])
    with pytest.raises(DataError, match=r'data_batch_5\.bin'):
        CIFAR(str(tmp_path), 10)


def test_files_of_another_size_or_kind_are_refused(tmp_path):
    write(tmp_path / 'train.bin', 100, images(2), [0, 99])
    whole = (tmp_path / 'train.bin').read_bytes()
    for content in (whole[:-1], b''):
        (tmp_path / 'train.bin').write_bytes(content)
        with pytest.raises(DataError, match=rf'train\.bin has {len(content)} bytes, expected a multiple of 3074'):
            CIFAR(str(tmp_path))
    write(tmp_path / 'test_batch.bin', 10, images(2), [0, 10])
    with pytest.raises(DataError, match=r'label 10, expected 0\.\.9'):
        CIFAR(str(tmp_path), 10, 'test')


@pytest.mark.parametrize('options', [{'classes': 20}, {'split': 'val'}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match='CIFAR: classes'):
        CIFAR(**options)
