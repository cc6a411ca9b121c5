"""Labels are numbered by one list of classes, whatever a split happens to hold; each reader, by value."""

import json
import struct

import numpy as np
import pytest
from PIL import Image
from test_datasets.conftest import write_image
from test_datasets.shard_data import png, write_tar

from mmselfsup_graft.datasets import (
    CIFAR,
    Digits,
    FashionMNIST,
    ImageFolder,
    ImageList,
    ImageNet,
    RawShards,
    SelfSupDataset,
    TarShards,
)
from mmselfsup_graft.datasets.classes import given_classes, read_classes, renumbering, share_classes
from mmselfsup_graft.datasets.shards.make_shards import index_shards, make_shards
from mmselfsup_graft.datasets.shards.stored_copy import store_resized
from mmselfsup_graft.errors import ConfigError, DataError

ALL = ('ant', 'bee', 'cat', 'dog')
HELD = ('bee', 'dog')


def named(dataset) -> list[str]:
    """The class of every sample, by name."""
    return [dataset.classes[label] for label in dataset.labels()]


@pytest.fixture
def animals(tmp_path):
    """Four classes to train on, of which the validation split has two."""
    root = tmp_path / 'animals'
    for number, name in enumerate(ALL):
        write_image(root / 'train' / name / '0.png', number)
        write_image(root / 'train' / name / '1.png', 10 + number)
    for number, name in enumerate(HELD):
        write_image(root / 'val' / name / '0.png', 20 + number)
    return root


def copied(root, tmp_path):
    store_resized(root, tmp_path / 'raw', form='raw')
    return tmp_path / 'raw'


def archived(root, tmp_path, split):
    make_shards(root, tmp_path / f'tar {split}', split=split)
    return tmp_path / f'tar {split}'


READERS = {
    'folder': lambda root, _, split: ImageFolder(str(root), split=split),
    'folder of the split': lambda root, _, split: ImageFolder(str(root / split)),
    'imagenet': lambda root, _, split: ImageNet(str(root), split),
    'raw': lambda root, tmp, split: RawShards(str(copied(root, tmp)), split=split),
    'tar': lambda root, tmp, split: TarShards(str(archived(root, tmp, split))),
}


@pytest.mark.parametrize('reader', READERS)
def test_a_split_that_lacks_classes_is_numbered_as_the_training_split(reader, animals, tmp_path):
    val, train = (READERS[reader](animals, tmp_path, split) for split in ('val', 'train'))
    assert train.classes == val.classes == ALL
    assert sorted(train.labels()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(val.labels()) == [1, 3]  # and not 0 and 1


@pytest.mark.parametrize('reader', ['folder', 'raw', 'folder of the split'])
def test_a_held_out_split_of_a_single_class_is_labeled(reader, animals, tmp_path):
    (animals / 'val' / 'dog').rename(tmp_path / 'elsewhere')
    assert READERS[reader](animals, tmp_path, 'val').labels().tolist() == [1]


@pytest.mark.parametrize('names', [('train', 'test'), ('training', 'validation'), ('train2017', 'val2017')])
def test_other_names_of_splits(names, animals):
    for old, new in zip(('train', 'val'), names):
        (animals / old).rename(animals / new)
    assert ImageFolder(str(animals), split=names[1]).labels().tolist() == [1, 3]


def test_own_classes_stay_where_the_training_split_has_not_all_and_sharing_refuses_them(animals):
    write_image(animals / 'val' / 'emu' / '0.png')
    train, val = ImageFolder(str(animals), split='train'), ImageFolder(str(animals), split='val')
    assert val.classes == ('bee', 'dog', 'emu')
    with pytest.raises(
        DataError, match=r"images of 'emu', not among.*3 classes \(bee, dog, emu\).*4 classes \(ant, bee"
    ):
        share_classes(train, {'val': val})
    with pytest.raises(DataError, match="images of 'emu'"):
        share_classes(ImageNet(str(animals)), {'val': ImageNet(str(animals), 'val')})


@pytest.mark.parametrize('serialize', [True, False])
def test_classes_are_matched_by_name_and_samples_follow(serialize, tmp_path):
    for number, name in enumerate(('dog', 'bee', 'dog')):
        write_image(tmp_path / name / f'{number}.png', number)
    data = ImageFolder(str(tmp_path), serialize_data=serialize, pipeline=[dict(type='LoadImage')])
    before = {info['img_path']: name for info, name in zip(map(data.get_data_info, range(3)), named(data))}
    assert data.labels().tolist() == [0, 1, 1]
    data.use_classes(ALL)
    assert data.classes == ALL
    assert data.labels().tolist() == [1, 3, 3]
    assert [data[number]['gt_label'] for number in range(3)] == [1, 3, 3]
    assert {data[number]['img_path']: ALL[data[number]['gt_label']] for number in range(3)} == before
    data.use_classes(tuple(reversed(ALL)))
    assert data.labels().tolist() == [2, 0, 0]
    with pytest.raises(DataError, match=r"'dog', 'bee', not among.*\(dog, cat, bee, ant\).*2 classes \(cat, ant\)"):
        data.use_classes(['cat', 'ant'])


@pytest.mark.parametrize('options', [{'indices': [0]}, {'indices': 2}, {'part': {'share': 0.5}}])
def test_a_share_that_lacks_a_class_keeps_the_numbering(options, animals):
    whole = ImageFolder(str(animals), split='train')
    some = ImageFolder(str(animals), split='train', **options)
    assert some.classes == whole.classes
    labels = {whole.get_data_info(i)['img_path']: whole.labels()[i] for i in range(len(whole))}
    assert [labels[some.get_data_info(i)['img_path']] for i in range(len(some))] == some.labels().tolist()
    assert ImageFolder(str(animals), split='train', subset='test').classes == ALL


def test_given_classes_count_for_every_reader(animals, tmp_path):
    (tmp_path / 'names.txt').write_text('dog\ncat\nbee\nant\n\n')
    (animals / 'inside.txt').write_text('dog\ncat\nbee\nant')
    inside = ImageFolder(str(animals), split='val', metainfo={'classes': 'inside.txt'})
    assert inside.labels().tolist() == [2, 0]
    for classes in (['dog', 'cat', 'bee', 'ant'], str(tmp_path / 'names.txt')):
        meta = {'classes': classes}
        val = ImageFolder(str(animals), split='val', metainfo=meta)
        assert val.labels().tolist() == [2, 0]
        assert ImageNet(str(animals), 'val', metainfo=meta).labels().tolist() == [2, 0]
        tar = archived(animals, tmp_path / str(len(classes)), 'val')
        assert sorted(TarShards(str(tar), metainfo=meta).labels()) == [0, 2]
    labels = Digits(metainfo={'classes': list('9876543210')}).labels()
    assert (labels == 9 - Digits().labels()).all()


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        ('nowhere.txt', r'nowhere\.txt.*cannot be read'),
        (['a', 'a'], "the name 'a' twice"),
        ([], 'one or more names'),
        ([1, 2], 'each a text'),
        (['a', ''], 'not empty'),
    ],
)
def test_impossible_lists_of_classes(classes, message, animals):
    with pytest.raises(ConfigError, match=message):
        ImageFolder(str(animals), split='train', metainfo={'classes': classes})


def test_a_file_of_classes_must_be_whole(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'\xef\xbb\xbfx y\r\nz\r\n')
    assert read_classes(tmp_path / 'a.txt') == ('x y', 'z')
    (tmp_path / 'b.txt').write_text('a\n\nb\n')
    with pytest.raises(ConfigError, match=r'b\.txt.*not empty'):
        read_classes(tmp_path / 'b.txt')


# ---------------------------------------------------------------- lists
def list_of(root, name, lines, **options):
    (root / name).write_text('\n'.join(lines) + '\n')
    return ImageList(str(root), name, **options)


def test_a_list_whose_paths_tell_the_classes_has_their_names(animals):
    lines = [f'train/{name}/0.png {label}' for name, label in (('dog', 3), ('ant', 0))]
    assert list_of(animals, 'ranks.txt', lines).classes == ALL  # labels are ranks among the folders
    lines = [f'train/{name}/0.png {label}' for name, label in (('dog', 0), ('bee', 2), ('ant', 1))]
    assert list_of(animals, 'own.txt', lines).classes == ('dog', 'ant', 'bee')  # numbers of their own, all there
    lines = ['train/dog/0.png 0', 'train/ant/0.png 0', 'train/cat/0.png 2']
    assert list_of(animals, 'groups.txt', lines).classes == ('0', '1', '2')  # a class is not a folder
    lines = ['train/dog/0.png 0', 'train/ant/0.png 2']
    assert list_of(animals, 'gaps.txt', lines).classes == ('0', '1', '2')  # who is 1?


def test_numbers_are_names_of_themselves_or_are_named(animals):
    flat = animals / 'flat'
    for number in range(3):
        write_image(flat / f'{number}.png', number)
    data = list_of(flat, 'a.txt', ['0.png 0', '1.png 2'])
    assert data.classes == ('0', '1', '2')
    names = {'classes': ['ant', 'bee', 'cat', 'dog']}
    named_list = list_of(flat, 'a.txt', ['0.png 0', '1.png 2'], metainfo=names)
    assert (named_list.classes, named_list.labels().tolist()) == (ALL, [0, 2])
    with pytest.raises(DataError, match=r"images of '2', not.*3 classes \(ant, bee, 2\).*2 classes \(ant, bee\)"):
        list_of(flat, 'a.txt', ['0.png 0', '1.png 2'], metainfo={'classes': ['ant', 'bee']})
    with pytest.raises(DataError, match=r"'0', '2', not among.*4 classes \(ant"):
        share_classes(ImageFolder(str(animals), split='train'), {'val': data})
    share_classes(data, {'val': list_of(flat, 'b.txt', ['2.png 1'])})
    with pytest.raises(DataError, match="images of '5'"):
        share_classes(data, {'val': list_of(flat, 'c.txt', ['2.png 5'])})


def test_a_drawn_list_keeps_the_names_of_the_folder_it_came_from(animals, tmp_path):
    from tools.dataset_tools import make_split

    for split in ('train', 'val'):
        out = tmp_path / f'{split}.txt'
        make_split.main(['--data-root', str(animals), '--split', split, '--per-class', '1', '--out', str(out)])
        assert json.loads((tmp_path / f'{split}.txt.json').read_text())['classes'] == list(ALL)
        listed = ImageList(str(animals), str(out))
        assert listed.classes == ALL
        assert all(name in listed.get_data_info(i)['img_path'] for i, name in enumerate(named(listed)))
    assert [line.split()[1] for line in (tmp_path / 'val.txt').read_text().splitlines()] == ['1', '3']


def test_bare_names_and_imagenet_meet_by_name(tmp_path):
    root = tmp_path / 'in1k'
    for name in ('n00000001', 'n00000002', 'n00000003'):
        write_image(root / 'train' / name / f'{name}_1.JPEG')
    for number in range(3):
        write_image(root / 'val' / f'v{number}.JPEG')
    (root / 'meta').mkdir()
    (root / 'meta' / 'val.txt').write_text('v0.JPEG 2\nv1.JPEG 1\nv2.JPEG 2\n')
    few = list_of(root, 'few.txt', ['n00000003_1.JPEG', 'n00000002_1.JPEG'])
    val = ImageNet(str(root), 'val')
    assert few.classes == val.classes == ('n00000001', 'n00000002', 'n00000003')
    assert (few.labels().tolist(), val.labels().tolist()) == ([2, 1], [2, 1, 2])
    (root / 'train' / 'n00000003').rename(tmp_path / 'lost')
    partly = ImageNet(str(root), 'val')
    assert partly.classes == ('0', '1', '2')  # the numbers mean folders that are not there
    with pytest.raises(DataError, match=r"'1', '2', not among.*2 classes \(n00000001, n00000002\)"):
        share_classes(ImageNet(str(root)), {'val': partly})


# ---------------------------------------------------------------- archives and binary files
def test_an_index_of_foreign_archives_takes_names(tmp_path):
    folder = tmp_path / 'tars'
    write_tar(folder / 'a.tar', [('x.png', png(0)), ('x.cls', b'1'), ('y.png', png(1)), ('y.cls', b'0')])
    index_shards(str(folder))
    assert TarShards(str(folder)).classes == ('0', '1')
    index_shards(str(folder), classes=('dog', 'ant'), overwrite=True)
    data = TarShards(str(folder))
    assert named(data) == ['ant', 'dog']
    data.use_classes(ALL)
    assert data.labels().tolist() == [0, 3]
    with pytest.raises(DataError, match=r'label 1, but.*1 classes \(dog\)'):
        index_shards(str(folder), classes=('dog',), overwrite=True)
    index = json.loads((folder / 'index.json').read_text())
    (folder / 'index.json').write_text(json.dumps({**index, 'classes': ['dog']}))
    with pytest.raises(DataError, match='has the label 1, but names 1 classes'):
        TarShards(str(folder))


def test_labels_beyond_the_classes_of_a_release_are_refused(tmp_path):
    images = struct.pack('>4B3i', 0, 0, 8, 3, 2, 28, 28) + bytes(2 * 28 * 28)
    (tmp_path / 'train-images-idx3-ubyte').write_bytes(images)
    (tmp_path / 'train-labels-idx1-ubyte').write_bytes(struct.pack('>4Bi', 0, 0, 8, 1, 2) + bytes([3, 10]))
    with pytest.raises(DataError, match='labels reach from 3 to 10, expected 0 to 9'):
        FashionMNIST(str(tmp_path))


def test_cifar_splits_meet_by_name(tmp_path):
    for name, labels in (('train.bin', [0, 7, 99]), ('test.bin', [7])):
        (tmp_path / name).write_bytes(b''.join(bytes([0, label]) + bytes(3072) for label in labels))
    names = [f'class {number}' for number in range(100)]
    (tmp_path / 'fine_label_names.txt').write_text('\n'.join(names))
    train, test = CIFAR(str(tmp_path)), CIFAR(str(tmp_path), split='test')
    share_classes(train, {'test': test})
    assert test.labels().tolist() == [7]
    given = {'classes': names[::-1]}
    assert CIFAR(str(tmp_path), split='test', metainfo=given).labels().tolist() == [92]
    (tmp_path / 'fine_label_names.txt').write_text('only one')
    with pytest.raises(DataError, match='has 1 names, expected 100'):
        CIFAR(str(tmp_path))


class Gathering(SelfSupDataset):
    """Images in memory, which a compiled pipeline takes as one array with its labels."""

    METAINFO = {'classes': ('b', 'd')}

    def load_data_list(self) -> list[dict]:
        return [{'img': np.full((4, 4), number, np.uint8), 'gt_label': number % 2} for number in range(4)]


def test_batches_that_are_gathered_have_the_new_labels():
    pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    data = Gathering(pipeline=pipeline, fast='cpu')
    assert data._stacked is not None
    data.use_classes('abcd')
    samples = data.__getitems__([0, 1, 2, 3])
    assert [int(samples[number]['data_samples'].gt_label) for number in range(4)] == [1, 3, 1, 3]


def test_renumbering_refuses_only_what_occurs():
    assert renumbering(('a', 'x', 'b'), ('b', 'a'), [0, 2, 2], 'it') == {0: 1, 2: 0}
    with pytest.raises(DataError, match="it has images of 'x'"):
        renumbering(('a', 'x', 'b'), ('b', 'a'), [0, 1], 'it')


def test_a_stored_copy_that_lost_a_class_is_numbered_by_the_names_that_are_left(animals, tmp_path):
    for file in (animals / 'train' / 'ant').iterdir():
        file.write_bytes(b'damaged')
    store_resized(animals, tmp_path / 'copy')
    source, copy = ImageFolder(str(animals), split='train'), ImageFolder(str(tmp_path / 'copy'), split='train')
    assert copy.classes == ALL[1:]
    share_classes(source, {'copy': copy})
    assert sorted(set(copy.labels())) == [1, 2, 3]
    raw = RawShards(str(copied(animals, tmp_path)), split='train')
    assert raw.classes == ALL[1:]
    assert raw.describe() == (
        '6 images, 3 classes (bee 2, cat 2, dog 2), 2 ignored: '
        'unreadable when copied 2 (train/ant/0.png, train/ant/1.png)'
    )
    assert Image.open(tmp_path / 'copy' / 'train' / 'bee' / '0.png').size == (8, 8)


@pytest.mark.parametrize('given', [['1', '2', '3'], ['1', '0', '2'], ['0', '1', '2'], ['a', 'b', 'c']])
def test_a_list_names_numbers_by_position_whatever_a_split_holds(given, animals, tmp_path):
    paths = sorted(animals.rglob('*.png'))[:3]
    flat = tmp_path / 'flat'  # names that tell no classes
    flat.mkdir()
    for number, path in enumerate(paths):
        (flat / f'{number}.png').write_bytes(path.read_bytes())
    found = {}
    for name, labels in (('train', (0, 1, 2)), ('val', (1, 2, 1)), ('ones', (1, 1, 1))):
        (tmp_path / f'{name}.txt').write_text(''.join(f'{number}.png {label}\n' for number, label in enumerate(labels)))
        data = ImageList(data_root=str(flat), ann_file=str(tmp_path / f'{name}.txt'), metainfo=dict(classes=given))
        found[name] = data.labels().tolist()
        assert data.classes == tuple(given)
    assert found == {'train': [0, 1, 2], 'val': [1, 2, 1], 'ones': [1, 1, 1]}


@pytest.mark.parametrize('text', ['1 b\n0 a\n', '1,b\n2,a\n', '["a", "b"]', '{"a": 0}'])
def test_a_file_of_classes_holds_names_alone(text, tmp_path):
    (tmp_path / 'classes.txt').write_text(text)
    with pytest.raises(ConfigError, match='expected names alone'):
        read_classes(tmp_path / 'classes.txt')


def test_numbers_within_names_stay(tmp_path):
    (tmp_path / 'classes.txt').write_text('747 cargo\n747 cabin\nred\n')
    assert read_classes(tmp_path / 'classes.txt') == ('747 cargo', '747 cabin', 'red')


@pytest.mark.parametrize('numbers', ['125', '23', '02', '01122'])
def test_names_that_begin_with_other_numbers_than_theirs(numbers, tmp_path):
    names = tuple(f'{number} euro {chr(97 + place)}' for place, number in enumerate(numbers))
    (tmp_path / 'classes.txt').write_text('\n'.join(names))
    assert read_classes(tmp_path / 'classes.txt') == names


@pytest.mark.parametrize('numbers', ['012', '123', '201', '321'])
def test_numbered_names_are_taken_from_a_config_alone(numbers, tmp_path):
    names = [f'{number} euro' for number in numbers]
    (tmp_path / 'classes.txt').write_text('\n'.join(names))
    with pytest.raises(ConfigError, match=r'metainfo=dict\(classes='):
        read_classes(tmp_path / 'classes.txt')
    assert given_classes({'classes': names}, 'a') == tuple(names)


def test_accents_in_either_spelling_are_one_name():
    composed, apart = 'caf\u00e9', 'cafe\u0301'
    assert renumbering([apart, 'tea'], ['tea', composed], [0, 1], 'a') == {0: 1, 1: 0}
    assert renumbering([composed, 'tea'], ['tea', apart], [0, 1], 'a') == {0: 1, 1: 0}
    assert renumbering([apart, composed], [composed, apart], [0, 1], 'a') == {0: 1, 1: 0}
