import pytest

from mmselfsup_graft.datasets import ImageNet
from mmselfsup_graft.errors import ConfigError, DataError


def test_class_folders(image_folder):
    root = str(image_folder('train/n2/a.JPEG', 'train/n1/b.JPEG', 'train/n1/c.JPEG', 'val/n2/d.JPEG', 'val/n1/e.JPEG'))
    train, val = ImageNet(root), ImageNet(root, 'val')
    assert train.classes == val.classes == ('n1', 'n2')
    assert train.labels().tolist() == [0, 0, 1]
    assert val.labels().tolist() == [0, 1]


def test_flat_val_with_meta_list(image_folder):
    root = image_folder('train/n2/a.JPEG', 'train/n1/b.JPEG', 'val/ILSVRC2012_1.JPEG', 'val/ILSVRC2012_2.JPEG')
    with pytest.raises(DataError, match=r'val\.txt.*cannot be read'):
        ImageNet(str(root), 'val')
    (root / 'meta').mkdir()
    (root / 'meta' / 'val.txt').write_text('ILSVRC2012_2.JPEG 1\nILSVRC2012_1.JPEG 0\n')
    val = ImageNet(str(root), 'val', pipeline=[{'type': 'LoadImage'}])
    assert val.labels().tolist() == [1, 0]
    assert val.classes == ('n1', 'n2')
    assert val[0]['img_path'].endswith('val/ILSVRC2012_2.JPEG')


def test_given_list(image_folder):
    root = image_folder('train/n2/a.JPEG', 'train/n1/b.JPEG')
    (root / 'part.txt').write_text('n2/a.JPEG 1')
    assert ImageNet(str(root), ann_file='part.txt').labels().tolist() == [1]


def test_errors_say_what_is_expected(image_folder, tmp_path):
    with pytest.raises(DataError, match=r'nowhere/train.*train/<wnid>/\*\.JPEG'):
        ImageNet(str(tmp_path / 'nowhere'))
    with pytest.raises(DataError, match=r'loose\.JPEG.*not in a class folder'):
        ImageNet(str(image_folder('train/n1/a.JPEG', 'train/loose.JPEG')))
    with pytest.raises(ConfigError, match=r"'test'.*'train' or 'val'"):
        ImageNet(str(tmp_path), 'test')
