"""What is found in folders of images: unreadable files, classes, sizes, copies."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.cli.dataset_tools import check_data
from mmselfsup_graft.datasets.inspection import copies_of, inspect_folder
from mmselfsup_graft.errors import ConfigError, DataError


@pytest.fixture
def folders(tmp_path):
    """Train: six images of two classes, one unreadable, one of 16 bits; val: a copy of a training image."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / 'train' / 'ab'[number % 2] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + number, 40, 3), dtype=np.uint8)).save(path)
    (tmp_path / 'train' / 'a' / '4.png').write_bytes((tmp_path / 'train' / 'a' / '4.png').read_bytes()[:200])
    Image.fromarray(rng.integers(0, 60000, (30, 30), dtype=np.uint16)).save(tmp_path / 'train' / 'b' / '9.png')
    (tmp_path / 'val' / 'a').mkdir(parents=True)
    (tmp_path / 'val' / 'b').mkdir(parents=True)
    shutil.copy(tmp_path / 'train' / 'a' / '0.png', tmp_path / 'val' / 'a' / 'x.png')
    shutil.copy(tmp_path / 'train' / 'a' / '0.png', tmp_path / 'val' / 'b' / 'y.png')
    return tmp_path / 'train', tmp_path / 'val'


@pytest.mark.parametrize('workers', [0, 2])
def test_facts(folders, workers):
    train = inspect_folder(str(folders[0]), workers=workers)
    assert [each.path.split('/')[-1] for each in train.unreadable] == ['4.png']
    assert train.unreadable[0].error
    assert sorted(each.size for each in train.readable) == [(20, 40), (21, 40), (22, 40), (23, 40), (25, 40), (30, 30)]
    assert list(train.classes) == ['a', 'a', 'a', 'b', 'b', 'b', 'b']
    for each in train.images:
        with open(each.path, 'rb') as file:
            assert each.sha256 == hashlib.sha256(file.read()).hexdigest()


def test_copies_between_folders_and_classes(folders):
    found = [inspect_folder(str(folder)) for folder in folders]
    (group,) = copies_of(found)
    assert [folder.images[number].path.split('/')[-1] for folder, number in group] == ['0.png', 'x.png', 'y.png']
    ((_, first), (_, second)) = copies_of(found[1:])[0]
    assert {found[1].classes[first], found[1].classes[second]} == {'a', 'b'}


def test_the_command(folders, tmp_path, capsys):
    out = tmp_path / 'facts.json'
    assert check_data.main([str(folders[0]), str(folders[1]), '--out', str(out)]) == 1
    text = capsys.readouterr().out
    assert '7 images, 2 classes (a 3, b 4)' in text
    assert 'shorter side: 20 to 30 px, median 22' in text
    assert '1 of 7 files are unusable, more than 5 %' in text
    assert '1 images are in more than one of the folders' in text
    rows = json.loads(out.read_text())
    assert len(rows) == 9
    assert [row['path'] for row in rows if row['error']] == [str(folders[0] / 'a' / '4.png')]
    assert check_data.main([str(folders[0]), '--max-left-out', '0.5']) == 0
    assert check_data.main([str(folders[1])]) == 0
    assert '1 images are in more than one class' in capsys.readouterr().out
    with pytest.raises(ConfigError, match='exists already'):
        check_data.main([str(folders[1]), '--out', str(out)])
    with pytest.raises(DataError, match='does not exist'):
        check_data.main([str(tmp_path / 'none')])
