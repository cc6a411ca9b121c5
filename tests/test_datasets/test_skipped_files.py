"""What readers leave out: counted, named, refused where it is much; and folders that are not classes."""

import io
import json
import logging
import os

import pytest
from mmengine.logging import MMLogger
from PIL import Image
from test_datasets.conftest import pixels, write_image
from test_datasets.shard_data import png, write_tar

from mmselfsup_graft.datasets import ImageFolder, ImageList, ImageNet, TarShards
from mmselfsup_graft.datasets.layout import annotation_folders, are_dates, split_folders
from mmselfsup_graft.datasets.scanning import IMAGE_EXTENSIONS, scan_folder
from mmselfsup_graft.datasets.shards.make_shards import index_shards, make_shards
from mmselfsup_graft.datasets.shards.stored_copy import store_resized
from mmselfsup_graft.datasets.skipped_files import LeftOut
from mmselfsup_graft.errors import ConfigError, DataError


def touch(path, content: bytes = b'x'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(dataset) -> list[str]:
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [os.path.relpath(info['img_path'], dataset.data_root) for info in infos]


# ---------------------------------------------------------------- extensions
def test_all_extensions_that_are_accepted_can_be_read_here(tmp_path):
    Image.init()
    for number, extension in enumerate(IMAGE_EXTENSIONS):
        kind = Image.registered_extensions()[extension]
        mode = '1' if extension in ('.pbm',) else 'RGB'
        Image.fromarray(pixels(number, 16)).convert(mode).save(tmp_path / f'{number}{extension}', kind)
    data = ImageFolder(str(tmp_path), pipeline=[dict(type='LoadImage')], on_corrupt='raise')
    assert len(data) == len(IMAGE_EXTENSIONS) == len(list(data))


@pytest.mark.parametrize(
    ('names', 'reason'),
    [
        (['a.heic'], '.heic 1 (a.heic)'),
        (['a.JPG.1', 'b.jpeg.1'], '.1 2 (a.JPG.1, b.jpeg.1)'),
        (['0001'], 'no extension 1 (0001)'),
        (['a.mp4', 'b.npy'], '.mp4 1 (a.mp4); .npy 1 (b.npy)'),
        (['c/a.CR2'], '.cr2 1 (c/a.CR2)'),
    ],
)
def test_files_that_are_left_out_stop_the_reader_with_their_names(names, reason, image_folder):
    root = image_folder('1.png', '2.png')
    for name in names:
        touch(root / name)
    with pytest.raises(DataError) as caught:
        ImageFolder(str(root))
    assert f'{len(names)} of {2 + len(names)} would be left out' in str(caught.value)
    assert reason in str(caught.value)
    data = ImageFolder(str(root), max_left_out=1)
    assert found(data) == ['1.png', '2.png']
    assert len(data.left_out) == data.left_out.unexpected == len(names)
    with pytest.raises(DataError, match='would be left out'):
        store_resized(root, root.parent / 'copy')
    with pytest.raises(DataError, match='would be left out'):
        make_shards(root, root.parent / 'tars')


def test_a_few_are_said_once_and_taken(tmp_path):
    for number in range(40):
        write_image(tmp_path / 'images' / f'{number}.png')
    touch(tmp_path / 'images' / 'a.heic')
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        ImageFolder(str(tmp_path / 'images'))
        data = ImageFolder(str(tmp_path / 'images'))
    finally:
        logger.removeHandler(handler)
    assert [line.partition(': ')[2] for line in lines] == ['1 ignored: .heic 1 (a.heic)']
    assert data.describe() == '40 images, no labels, 1 ignored: .heic 1 (a.heic)'


def test_what_lies_beside_images_is_not_counted(image_folder):
    root = image_folder('1.png')
    for name in ('README', 'LICENSE', 'notes.txt', 'labels.json', 'Thumbs.db', '.DS_Store', 'data.yaml', 'a.xml'):
        touch(root / name)
    data = ImageFolder(str(root))
    assert (len(data.left_out), data.describe()) == (0, '1 images, no labels')


def test_hidden_files_and_folders_are_counted_but_do_not_stop(image_folder):
    root = image_folder('a/1.png', 'b/1.png', '.thumbs/1.png', '__MACOSX/a/._1.png', 'a/._1.png')
    data = ImageFolder(str(root))
    assert found(data) == ['a/1.png', 'b/1.png']
    assert data.classes == ('a', 'b')
    assert data.left_out.counts() == {'hidden': 3}
    assert data.left_out.unexpected == 0


def test_a_pipe_is_no_image(image_folder):
    root = image_folder('1.png')
    os.mkfifo(root / 'pipe.png')
    data = ImageFolder(str(root), max_left_out=1)
    assert found(data) == ['1.png']
    assert len(data.left_out) == 1


@pytest.mark.parametrize('extensions', ['.gif', 'gif', ['.GIF'], ('gif',)])
def test_a_text_is_one_extension_and_a_dot_is_added(extensions, image_folder):
    root = image_folder('a.gif', 'b.GIF', 'c.jfif', 'd.fig', 'e.gif.png')
    data = ImageFolder(str(root), extensions=extensions)
    assert found(data) == ['a.gif', 'b.GIF']
    assert data.left_out.counts() == {'.jfif': 1, '.fig': 1, '.png': 1}
    assert data.left_out.unexpected == 0  # as asked for


def test_odd_ends_of_names_can_be_asked_for(image_folder):
    root = image_folder('a.jpeg.1', 'b', 'c.png')
    assert found(ImageFolder(str(root), extensions='.jpeg.1')) == ['a.jpeg.1']
    assert found(ImageFolder(str(root), extensions='')) == ['a.jpeg.1', 'b', 'c.png']
    for wrong in ([], [1], ()):
        with pytest.raises(ConfigError, match='extensions is'):
            ImageFolder(str(root), extensions=wrong)


@pytest.mark.parametrize('value', [-0.1, 1.5, True, 'all', None])
def test_impossible_shares(value, image_folder):
    with pytest.raises(ConfigError, match='max_left_out'):
        ImageFolder(str(image_folder('1.png')), max_left_out=value)


def test_imagenet_counts_as_a_folder_does(image_folder):
    root = image_folder('train/n1/a.JPEG', 'train/n2/b.JPEG', 'val/n1/c.JPEG')
    touch(root / 'train' / 'n1' / 'd.heic')
    with pytest.raises(DataError, match=r'1 of 3 would be left out.*\.heic 1 \(n1/d\.heic\)'):
        ImageNet(str(root))
    assert len(ImageNet(str(root), max_left_out=0.5)) == 2


# ---------------------------------------------------------------- lists
def write_list(root, content: str | bytes):
    (root / 'l.txt').write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(root), 'l.txt'


@pytest.mark.parametrize(
    'content',
    [
        'a.png 0\nb c.png 1\n',
        '\ufeffa.png 0\r\nb c.png 1\r\n',
        '# path label\na.png 0\n#b.png 1\nb c.png 1',
        'a.png\t0\nb c.png   1\n\n\n',
    ],
)
def test_lists_that_are_read(content, image_folder):
    root = image_folder('a.png', 'b c.png')
    data = ImageList(*write_list(root, content))
    assert (found(data), data.labels().tolist()) == (['a.png', 'b c.png'], [0, 1])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('a.png 0\n\nb.png 1\n', 'line 2'),
        ('a.png,0\nb.png,1\n', 'line 1.*separated by a blank, not a comma'),
        ('"a.png",0\n', 'line 1.*comma'),
        ('a.png 0\nb.png cat\n', 'line 2.*label >= 0'),
        ('a.png 0\nb.png -1\n', 'line 2.*label >= 0'),
        ('a.png 0 0\n', r'a\.png 0.*does not exist.*a blank and a label'),
        ('a.png 0\na.png 1\n', r"'a\.png' the labels 0 and 1"),
        ('# only a comment\n', 'is empty'),
        ('a.png 0\n'.encode('utf-16'), 'UTF-8'),
    ],
)
def test_lists_that_are_refused(content, message, image_folder):
    root = image_folder('a.png', 'b.png')
    with pytest.raises(DataError, match=message):
        ImageList(*write_list(root, content), max_left_out=1)


def test_lines_with_more_columns_are_missing_files(image_folder):
    root = image_folder('a.png', 'b.png')
    arguments = write_list(root, 'a.png 0\nb.png 1 0.5 7\n')
    with pytest.raises(DataError, match=r'1 of 2 would be left out.*missing 1 \(b\.png 1 0\.5\)'):
        ImageList(*arguments)


def test_missing_files_are_counted_and_left_out_or_refused(image_folder):
    root = image_folder('a/1.png', 'b/2.png')
    arguments = write_list(root, 'a/1.png 0\na/gone.png 0\nc/3.png 1\nb/2.png 1\n')
    with pytest.raises(DataError, match=r'2 of 4 would be left out.*missing 2 \(a/gone\.png, c/3\.png\)'):
        ImageList(*arguments)
    data = ImageList(*arguments, max_left_out=0.5)
    assert (found(data), data.labels().tolist()) == (['a/1.png', 'b/2.png'], [0, 1])
    assert data.describe() == '2 images, 2 classes (0 1, 1 1), 2 ignored: missing 2 (a/gone.png, c/3.png)'
    with pytest.raises(DataError, match=r'a/gone\.png.*does not exist; remove its line'):
        ImageList(*arguments, max_left_out=1, test_mode=True)  # a test on fewer images is another test


def test_repeated_lines_stay_and_are_said(image_folder):
    root = image_folder('a.png', 'b.png')
    data = ImageList(*write_list(root, 'a.png 0\nb.png 1\na.png 0\n'))
    assert data.labels().tolist() == [0, 1, 0]
    assert '1 lines repeat an image' in data.describe()


def test_labels_beyond_the_given_classes_are_refused(image_folder):
    root = image_folder('a.png', 'b.png')
    with pytest.raises(DataError, match=r"images of '7', not.*2 classes \(x, y\)"):
        ImageList(*write_list(root, 'a.png 0\nb.png 7\n'), metainfo={'classes': ['x', 'y']})


# ---------------------------------------------------------------- archives
def keys(folder, **options) -> dict[str, int]:
    data = TarShards(str(folder), **options)
    infos = [data.get_data_info(number) for number in range(len(data))]
    return {info['img_path'].rpartition('.tar/')[2]: info.get('gt_label', -1) for info in infos}


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['scan.v2', 'scan.v3'], {'scan.v2.png': 0, 'scan.v3.png': 1}),
        (['a', 'scan.v2', 'dir.x/three'], {'a.png': 0, 'scan.v2.png': 1, 'dir.x/three.png': 2}),
        (['2021.05.01', '2021.05.02', './x.y'], {'2021.05.01.png': 0, '2021.05.02.png': 1, './x.y.png': 2}),
    ],
)
def test_dots_in_names_of_archives(names, expected, tmp_path):
    members = [
        (f'{name}.{end}', content)
        for number, name in enumerate(names)
        for end, content in (('png', png(number)), ('cls', str(number).encode()))
    ]
    write_tar(tmp_path / 'a.tar', members)
    index_shards(str(tmp_path))
    assert keys(tmp_path) == expected
    images = TarShards(str(tmp_path), pipeline=[dict(type='LoadImage')])
    for number in range(len(names)):
        buffer = io.BytesIO()
        images[number]['img'].save(buffer, 'PNG')
        assert buffer.getvalue() == png(number)


def test_a_label_for_the_only_image_of_a_key(tmp_path):
    write_tar(tmp_path / 'a.tar', [('x.rgb.png', png(0)), ('x.cls', b'4'), ('x.json', b'{}')])
    index_shards(str(tmp_path))
    assert keys(tmp_path) == {'x.rgb.png': 4}


@pytest.mark.parametrize(
    ('members', 'reason', 'count'),
    [
        ([('b.heic', b'x')], '.heic', 1),
        ([('b', b'x'), ('c', b'x')], 'no extension', 2),
        ([('a.depth.png', png(1))], 'further images of a sample', 1),
        ([('b.cls', b'1')], 'label without an image', 1),
        ([('a.npy', b'x')], '.npy beside an image', 0),
        ([('._b.png', b'x'), ('__MACOSX/c.png', b'x')], 'hidden', 0),
        ([('a.json', b'{}'), ('b.txt', b'x')], None, 0),
    ],
)
def test_members_that_are_not_used_are_counted(members, reason, count, tmp_path):
    write_tar(tmp_path / 'a.tar', [('a.png', png(0)), ('a.cls', b'0'), *members])
    if count:
        with pytest.raises(DataError, match=f'{count} of {1 + count} would be left out.*{reason}'):
            index_shards(str(tmp_path))
    index_shards(str(tmp_path), max_left_out=1)
    data = TarShards(str(tmp_path), max_left_out=count / (1 + count))
    assert len(data) == 1
    assert list(data.left_out.counts()) == ([reason] if reason else [])
    assert data.left_out.unexpected == count


def test_an_index_without_counts_is_still_read(tmp_path):
    write_tar(tmp_path / 'a.tar', [('a.png', png(0)), ('a.cls', b'0')])
    index_shards(str(tmp_path))
    index = json.loads((tmp_path / 'index.json').read_text())
    del index['shards'][0]['ignored']
    (tmp_path / 'index.json').write_text(json.dumps(index))
    assert keys(tmp_path) == {'a.png': 0}


# ---------------------------------------------------------------- folders that are not classes
@pytest.mark.parametrize(
    ('names', 'splits'),
    [
        (['train', 'val'], ['train', 'val']),
        (['Training', 'Validation'], ['Training', 'Validation']),
        (['train', 'valid', 'test'], ['test', 'train', 'valid']),
        (['train2017', 'val2017'], ['train2017', 'val2017']),
        (['train_images', 'test_images'], ['test_images', 'train_images']),
        (['train', 'val', 'extra'], ['train', 'val']),
        (['test', 'dev'], ['dev', 'test']),
        (['cars_train', 'cars_val', 'notes'], ['cars_train', 'cars_val']),
        (['fold1', 'fold2', 'fold10'], ['fold1', 'fold10', 'fold2']),
        (['fold1', 'cat'], []),
        (['bullet_train', 'crash_test'], []),
        (['road_train', 'road_bike'], []),
        (['train', 'bus', 'car'], []),  # a vehicle
        (['cat', 'dog'], []),
        (['testudo', 'validus'], []),
        (['test tube', 'beaker'], []),
    ],
)
def test_splits_are_told_from_classes(names, splits):
    assert split_folders(names) == splits


@pytest.mark.parametrize('with_label', ['auto', True])
@pytest.mark.parametrize(
    'names', [('train', 'val'), ('training', 'test'), ('images', 'masks'), ('train', 'valid', 'test')]
)
def test_folders_that_are_no_classes_are_refused_with_what_to_do(names, with_label, image_folder):
    root = image_folder(*(f'{name}/cat/{number}.png' for name in names for number in range(2)))
    with pytest.raises(DataError, match=r'not classes.*with_label=False.*any_folder_is_class=True'):
        ImageFolder(str(root), with_label=with_label)
    assert ImageFolder(str(root), with_label=False).labels() is None
    data = ImageFolder(str(root), with_label=with_label, any_folder_is_class=True)
    assert data.classes == tuple(sorted(names))
    with pytest.raises(DataError, match='not classes'):
        make_shards(root, root.parent / 'tars')


def test_the_layout_of_detection_sets(image_folder):
    root = image_folder('train/images/1.png', 'train/images/2.png', 'valid/images/3.png')
    for split in ('train', 'valid'):
        touch(root / split / 'labels' / '1.txt')
    touch(root / 'data.yaml')
    data = ImageFolder(str(root), split='train')
    assert data.labels() is None  # the labels are boxes in text files
    with pytest.raises(DataError, match=r'images, labels.*annotations, not classes'):
        ImageFolder(str(root), split='train', with_label=True)
    assert annotation_folders(['images', 'dogs', 'labels']) == []


def test_dates_are_no_classes_unless_asked_for(image_folder):
    root = image_folder('2021-05/1.png', '2021-06/2.png', '2022/3.png')
    data = ImageFolder(str(root))
    assert data.labels() is None
    assert 'the folders are dates (with_label=True' in data.describe()
    assert ImageFolder(str(root), with_label=True).labels().tolist() == [0, 1, 2]
    assert ImageFolder(str(root), any_folder_is_class=True).labels().tolist() == [0, 1, 2]
    assert are_dates(['01-05-2021', '31.12.1999'])
    assert are_dates(['2021-05-01 Rome', '20220630', '2021_06_02_Oslo'])
    assert not are_dates(['2021-05-01 Rome', 'Oslo'])
    assert not are_dates(['2021 models', '1998 cars'])
    assert not are_dates(['00', '01', '02'])
    assert not are_dates(['2021', '0021'])
    assert not are_dates([])


def test_empty_nested_and_loose_are_said(image_folder):
    root = image_folder('cat/1.png', 'cat/deep/er/2.png', 'dog/3.png')
    (root / 'bee').mkdir()
    touch(root / 'cow' / 'notes.txt')
    data = ImageFolder(str(root))
    assert data.classes == ('cat', 'dog')
    text = data.describe()
    assert text == (
        '3 images, 2 classes (cat 2, dog 1), 2 folders without an image (bee, cow), '
        '1 images are below a sub-folder of their class folder'
    )
    write_image(root / 'loose.png')
    assert 'read without labels: 1 images are not in a folder (loose.png …)' in ImageFolder(str(root)).describe()


def test_a_tally_in_words():
    tally = LeftOut()
    assert (len(tally), tally.text()) == (0, '')
    for name in 'abcd':
        tally.add('.heic', f'{name}.heic')
    tally.add('hidden', '.x', expected=True)
    assert tally.text() == '5 ignored: .heic 4 (a.heic, b.heic, c.heic, …); hidden 1 (.x)'
    tally.check(96, 0.04, 'it')
    with pytest.raises(DataError, match='it: 4 of 99 would be left out, more than 4 %'):
        tally.check(95, 0.04, 'it')


def test_the_scan_is_sorted_whatever_the_file_system_says(image_folder):
    root = image_folder('b/2.png', 'a/1.png', 'b/10.png')
    for name in ('z.heic', 'y.heic', 'x.heic', 'w.heic'):
        touch(root / name)
    scan = scan_folder(str(root))
    assert scan.paths == ['a/1.png', 'b/10.png', 'b/2.png']
    assert 'w.heic, x.heic, y.heic, …' in scan.left_out.text()


@pytest.mark.parametrize('subset', ['train', 'test'])
def test_the_share_is_that_of_the_folder_not_of_a_subset(subset, tmp_path):
    for number in range(60):
        (tmp_path / 'ab'[number % 2]).mkdir(exist_ok=True)
        Image.new('L', (4, 4)).save(tmp_path / 'ab'[number % 2] / f'{number}.png')
    for number in range(2):  # 3 % of all, 14 % of the test images
        (tmp_path / 'a' / f'{number}.heic').write_text('x')
    data = ImageFolder(data_root=str(tmp_path), subset=subset)
    assert len(data) == {'train': 48, 'test': 12}[subset]
    assert data.left_out.counts() == {'.heic': 2}
