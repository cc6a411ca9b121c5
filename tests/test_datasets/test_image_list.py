import pytest

from mmselfsup_graft.datasets import ImageList, parse_image_list
from mmselfsup_graft.errors import DataError


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('last', ['', 'end', 'end twice'])
def test_labeled_form(end, last):
    text = end.join(['train/n1/a.JPEG 3', 'val/my photo 1.png 0']) + end * len(last.split())
    entries, classes = parse_image_list(text)
    assert entries == [('train/n1/a.JPEG', 3), ('val/my photo 1.png', 0)]
    assert classes == ('0', '1', '2', '3')


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_bare_names(end):
    text = end.join(['n04235860_14959.JPEG', 'n01440764_3.JPEG', 'n04235860_2.JPEG']) + end
    path = 'train/n04235860/n04235860_14959.JPEG'
    entries, classes = parse_image_list(text)
    assert entries[0] == (path, 1)
    assert [entry.label for entry in entries] == [1, 0, 1]
    assert classes == ('n01440764', 'n04235860')
    known = ['n04235860', 'n09999999', 'n01440764', 'n02000000']
    assert [entry.label for entry in parse_image_list(text, class_folders=known).entries] == [2, 0, 2]


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('a.png 0\nb.png\nc.png 1', 2),
        ('a.png 0\n\nc.png 1', 2),
        ('a.png 0\nc.png one\n', 2),
        ('a.png 0\nc.png -1\n', 2),
        ('7\na.png 0\n', 1),
        ('a.png 0\nb.png 1\nval/n0/cut_of', 3),
        ('a.png 0\nn04235860_14959.JPEG', 2),
        ('n04235860_14959.JPEG\nn04235860_1.JPEG 0', 2),
        ('n04235860_14959.JPEG\n../n04235860_1.JPEG', 2),
    ],
)
def test_malformed_line_is_named_with_its_number(text, line):
    with pytest.raises(DataError, match=f'few.txt, line {line}: .*malformed'):
        parse_image_list(text, 'few.txt')


def test_unknown_folder_and_empty_list():
    with pytest.raises(DataError, match=r'line 1.*train/n04235860'):
        parse_image_list('n04235860_1.JPEG', class_folders=['n01440764'])
    for text in ('', '\n\r\n'):
        with pytest.raises(DataError, match=r'few\.txt is empty'):
            parse_image_list(text, 'few.txt')


def test_dataset_of_labeled_form(image_folder, tmp_path, monkeypatch):
    root = image_folder('x/a b.png', 'y/c.png')
    (root / 'meta').mkdir()
    (root / 'meta' / 'l.txt').write_bytes(b'y/c.png 4\r\nx/a b.png 1\r\n')
    dataset = ImageList(str(root), 'meta/l.txt', pipeline=[{'type': 'LoadImage'}])
    assert [dataset[i]['gt_label'] for i in range(2)] == [4, 1] == dataset.labels().tolist()
    assert dataset[1]['img_path'] == str(root / 'x/a b.png')
    assert dataset.num_corrupt == 0
    assert dataset.classes == tuple('01234')
    (tmp_path / 'here.txt').write_text('y/c.png 2')
    assert ImageList(str(root), str(tmp_path / 'here.txt')).labels().tolist() == [2]
    monkeypatch.chdir(tmp_path)
    assert ImageList(str(root), 'here.txt').labels().tolist() == [2]


def test_dataset_of_bare_names_ranks_among_all_train_folders(image_folder):
    root = image_folder('train/n00000002/n00000002_1.JPEG', 'train/n00000001/n00000001_1.JPEG', 'train/n00000003/x.png')
    (root / 'few.txt').write_text('n00000003_1.JPEG\nn00000002_1.JPEG\n')
    with pytest.raises(DataError, match=r'n00000003_1\.JPEG.*few\.txt.*does not exist'):
        ImageList(str(root), 'few.txt')
    (root / 'few.txt').write_text('n00000002_1.JPEG\n')
    dataset = ImageList(str(root), 'few.txt')
    assert dataset.labels().tolist() == [1]
    assert dataset.classes == ('n00000001', 'n00000002', 'n00000003')


def test_missing_and_binary_lists_are_named(tmp_path):
    with pytest.raises(DataError, match=r'nowhere\.txt.*was not found, nor'):
        ImageList(str(tmp_path), 'nowhere.txt')
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(DataError, match=r'binary\.txt.*UTF-8'):
        ImageList(str(tmp_path), 'binary.txt')
