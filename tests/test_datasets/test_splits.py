from collections import Counter

import numpy as np
import pytest

from mmselfsup_graft.datasets import Digits, ImageFolder, ImageList, balanced_indices, balanced_subset, write_image_list
from mmselfsup_graft.datasets.image_sets.image_list import ListEntry, parse_image_list
from mmselfsup_graft.datasets.splits import folder_entries, image_list_text, list_entries
from mmselfsup_graft.errors import ConfigError, DataError

LABELS = np.array([2, 0, 0, 2, 2, 5, 0, 2, 0, 5, 2, 0, 0])  # six 0, five 2, two 5


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('count', [1, 2])
def test_equally_many_of_each_class(count, seed):
    chosen = balanced_indices(LABELS, per_class=count, seed=seed)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert Counter(LABELS[chosen].tolist()) == {0: count, 2: count, 5: count}
    assert balanced_indices(LABELS.tolist(), per_class=count, seed=seed).tolist() == chosen.tolist()


@pytest.mark.parametrize(
    ('share', 'counts'),
    [(0.01, {0: 1, 2: 1, 5: 1}), (0.5, {0: 3, 2: 2, 5: 1}), (0.7, {0: 4, 2: 4, 5: 1}), (1, {0: 6, 2: 5, 5: 2})],
)
def test_a_share_of_each_class_is_rounded_and_never_empty(share, counts):
    chosen = balanced_indices(LABELS, share=share)
    assert Counter(LABELS[chosen].tolist()) == counts


def test_the_choice_is_uniform_nested_and_follows_the_seed():
    labels = np.repeat([0, 1], 4)
    hits = np.zeros(8)
    for seed in range(2000):
        hits[balanced_indices(labels, per_class=1, seed=seed)] += 1
    np.testing.assert_allclose(hits / 2000, 0.25, atol=0.05)  # five standard deviations
    many = np.repeat(np.arange(3), 50)
    for seed in (0, 1):
        one, ten, half = (set(balanced_indices(many, seed=seed, **size).tolist()) for size in SIZES)
        assert one < ten < half
    first, second = (balanced_indices(many, per_class=10, seed=seed).tolist() for seed in (0, 1))
    assert first != second
    positions = np.array(first).reshape(3, 10) % 50
    assert len({tuple(row) for row in positions.tolist()}) == 3, 'classes are drawn independently'


SIZES = (dict(per_class=1), dict(per_class=10), dict(share=0.5))


def test_a_class_keeps_its_choice_whatever_the_others_hold():
    alone = balanced_indices(np.full(9, 7), per_class=3)
    mixed = balanced_indices(np.r_[np.full(9, 7), np.full(20, 1)], per_class=3)
    assert mixed[:3].tolist() == alone.tolist()


@pytest.mark.parametrize(
    ('size', 'message'),
    [
        (dict(), 'exactly one'),
        (dict(per_class=1, share=0.1), 'exactly one'),
        (dict(per_class=0), 'per_class is 0'),
        (dict(share=0.0), r'share is 0\.0'),
        (dict(share=1.5), r'share is 1\.5'),
        (dict(per_class=1, seed=-1), 'seed is -1'),
    ],
)
def test_impossible_sizes(size, message):
    with pytest.raises(ConfigError, match=message):
        balanced_indices(LABELS, **size)


def test_too_few_samples():
    with pytest.raises(DataError, match='class 5 has 2 samples, fewer than 3'):
        balanced_indices(LABELS, per_class=3)
    with pytest.raises(DataError, match='no labeled samples'):
        balanced_indices([], per_class=1)


def test_a_data_set_in_memory_takes_the_indices():
    whole = Digits(split='train')
    chosen = balanced_subset(whole, per_class=3, seed=4)
    part = Digits(split='train', indices=chosen)
    assert len(part) == 30
    assert part.labels().tolist() == whole.labels()[chosen].tolist()
    assert set(Counter(part.labels().tolist()).values()) == {3}


def test_a_data_set_without_labels(image_folder):
    with pytest.raises(DataError, match='ImageFolder has no labels'):
        balanced_subset(ImageFolder(str(image_folder('a.png', 'b.png'))), per_class=1)


# List files


@pytest.mark.parametrize('split', ['', 'train'])
def test_written_list_gives_the_labels_of_the_folder(image_folder, tmp_path, split):
    names = [f'{label}/sub/{number} b.png' for label in ('zebra', 'ant') for number in range(3)]
    root = image_folder(*(f'{split}/{name}'.lstrip('/') for name in names))
    entries = folder_entries(str(root), split).entries
    assert {entry.label for entry in entries} == {0, 1}
    write_image_list(entries, str(tmp_path / 'new' / 'list.txt'))
    content = (tmp_path / 'new' / 'list.txt').read_bytes()
    assert content.endswith(b'.png 1\n')
    assert b'\r' not in content
    assert parse_image_list(content.decode()).entries == entries
    listed = ImageList(str(root), str(tmp_path / 'new' / 'list.txt'))
    folder = ImageFolder(str(root), split=split)
    assert listed.labels().tolist() == folder.labels().tolist() == [0, 0, 0, 1, 1, 1]
    assert [listed.get_data_info(i)['img_path'] for i in range(6)] == [
        folder.get_data_info(i)['img_path'] for i in range(6)
    ]


def test_entries_of_lists_of_both_forms(image_folder, tmp_path):
    root = image_folder('train/n00000003/x.png', 'train/n00000001/x.png', 'train/n00000002/x.png')
    (tmp_path / 'bare.txt').write_text('n00000003_7.JPEG\r\nn00000001_2.JPEG')
    assert list_entries(str(tmp_path / 'bare.txt')).entries == [
        ('train/n00000003/n00000003_7.JPEG', 1),
        ('train/n00000001/n00000001_2.JPEG', 0),
    ]
    assert [entry.label for entry in list_entries(str(tmp_path / 'bare.txt'), str(root)).entries] == [2, 0]
    (tmp_path / 'labeled.txt').write_text('a b.png 4\n')
    assert list_entries(str(tmp_path / 'labeled.txt'), str(root)).entries == [('a b.png', 4)]


def test_splits_are_not_taken_for_classes(image_folder):
    root = image_folder('train/a/1.png', 'val/a/2.png')
    with pytest.raises(DataError, match=r'train, val of .* are splits, not classes'):
        folder_entries(str(root))


@pytest.mark.parametrize('path', [' a.png', 'a.png ', 'a\nb.png', 'a\rb.png', '\udcff.png', ''])
def test_paths_that_no_list_can_hold(path, tmp_path):
    with pytest.raises(DataError, match='cannot be written'):
        image_list_text([ListEntry('fine.png', 0), ListEntry(path, 1)])
    with pytest.raises(DataError):
        write_image_list([ListEntry(path, 1)], str(tmp_path / 'list.txt'))
    assert not list(tmp_path.iterdir())


def test_an_existing_list_is_kept_unless_asked(tmp_path):
    target = tmp_path / 'list.txt'
    target.write_text('old')
    with pytest.raises(DataError, match='exists and was not changed'):
        write_image_list([ListEntry('a.png', 0)], str(target))
    assert target.read_text() == 'old'
    write_image_list([ListEntry('a.png', 0)], str(target), overwrite=True)
    assert target.read_bytes() == b'a.png 0\n'
    with pytest.raises(DataError, match='no entry'):
        write_image_list([], str(tmp_path / 'other.txt'))
    assert [path.name for path in tmp_path.iterdir()] == ['list.txt']
