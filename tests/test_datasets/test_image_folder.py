import os

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.datasets import ImageFolder
from mmselfsup_graft.errors import ConfigError, DataError


def names(dataset, root):
    return [os.path.relpath(dataset.get_data_info(i)['img_path'], root) for i in range(len(dataset))]


def test_flat_folder_is_unlabeled_and_sorted(image_folder):
    root = image_folder('b.png', 'a.JPG', 'c.webp')
    (root / 'notes.txt').write_text('x')
    (root / '.hidden.png').write_text('x')
    dataset = ImageFolder(str(root))
    assert names(dataset, root) == ['a.JPG', 'b.png', 'c.webp']
    assert dataset.labels() is None
    assert dataset.classes is None
    assert 'gt_label' not in dataset.get_data_info(0)


def test_class_folders_are_labeled_in_sorted_order(image_folder):
    root = image_folder('dog/1.png', 'cat/deep/er/2.png', 'cat/1.png', 'ant/1.png')
    dataset = ImageFolder(str(root))
    assert dataset.classes == ('ant', 'cat', 'dog') == dataset.metainfo['classes']
    assert names(dataset, root) == ['ant/1.png', 'cat/1.png', 'cat/deep/er/2.png', 'dog/1.png']
    assert dataset.labels().tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize('files', [('cat/1.png', 'cat/2.png'), ('cat/1.png', 'dog/1.png', 'loose.png')])
def test_auto_is_unlabeled_with_one_class_or_loose_images(image_folder, files):
    assert ImageFolder(str(image_folder(*files))).labels() is None


def test_with_label_can_be_forced(image_folder):
    root = image_folder('cat/1.png', 'dog/1.png', folder='two')
    assert ImageFolder(str(root), with_label=False).labels() is None
    one = image_folder('cat/1.png', folder='one')
    assert ImageFolder(str(one), with_label=True).labels().tolist() == [0]
    with pytest.raises(DataError, match=r'loose\.png.*not in a class folder'):
        ImageFolder(str(image_folder('cat/1.png', 'loose.png', folder='loose')), with_label=True)
    with pytest.raises(ConfigError, match="with_label is 'maybe'"):
        ImageFolder(str(root), with_label='maybe')


def test_given_classes_fix_the_labels(image_folder):
    root = image_folder('cat/1.png', 'dog/1.png')
    assert ImageFolder(str(root), metainfo={'classes': ['dog', 'fox', 'cat']}).labels().tolist() == [2, 0]
    with pytest.raises(DataError, match=r"images of 'cat'.*2 classes \(cat, dog\).*2 classes \(dog, fox\)"):
        ImageFolder(str(root), metainfo={'classes': ['dog', 'fox']})


def test_links_are_followed_but_not_in_circles(image_folder, tmp_path):
    root = image_folder('a/1.png')
    elsewhere = image_folder('2.png', 'deep/3.png', folder='elsewhere')
    (root / 'b').symlink_to(elsewhere, target_is_directory=True)
    (root / 'a' / '4.png').symlink_to(elsewhere / '2.png')
    (root / 'a' / 'up').symlink_to(root, target_is_directory=True)
    (root / 'a' / 'dead.png').symlink_to(tmp_path / 'nowhere.png')
    with pytest.raises(DataError, match=r'1 of 5 would be left out.*link to nothing 1 \(a/dead\.png\)'):
        ImageFolder(str(root))
    dataset = ImageFolder(str(root), max_left_out=0.2)
    assert names(dataset, root) == ['a/1.png', 'a/4.png', 'b/2.png', 'b/deep/3.png']
    assert dataset.labels().tolist() == [0, 0, 1, 1]


def test_split_and_extensions(image_folder):
    root = image_folder('train/1.png', 'val/1.png', 'val/2.bmp')
    assert names(ImageFolder(str(root), split='val', extensions=['.bmp']), root) == ['val/2.bmp']


def test_missing_and_empty_folders_are_named(image_folder, tmp_path):
    with pytest.raises(DataError, match=r'nowhere.*does not exist'):
        ImageFolder(str(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match=r'empty.*\.jpg, \.jpeg, .*\.png'):
        ImageFolder(str(tmp_path / 'empty'))


def test_subsets_split_every_class_for_good(tmp_path) -> None:
    for name, count in (('a', 10), ('b', 5)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new('L', (4, 4), number).save(tmp_path / name / f'{number}.png')
    sides = {side: ImageFolder(str(tmp_path), subset=side, holdout=0.2) for side in ('all', 'train', 'test')}
    paths = {side: {data.get_data_info(i)['img_path'] for i in range(len(data))} for side, data in sides.items()}
    assert paths['train'] | paths['test'] == paths['all']
    assert not paths['train'] & paths['test']
    assert np.bincount(sides['test'].labels()).tolist() == [2, 1]


def test_a_class_of_one_image_stays_in_train_and_cannot_be_all_there_is(tmp_path) -> None:
    for name in 'ab':
        (tmp_path / name).mkdir()
        Image.new('L', (4, 4)).save(tmp_path / name / '0.png')
    with pytest.raises(DataError, match='no class has two images'):
        ImageFolder(str(tmp_path), subset='train')
    Image.new('L', (4, 4)).save(tmp_path / 'b' / '1.png')
    sides = {side: ImageFolder(str(tmp_path), subset=side) for side in ('train', 'test')}
    assert {side: data.labels().tolist() for side, data in sides.items()} == {'train': [0, 1], 'test': [1]}
