"""Pages of maps and neighbors: complete in themselves, with the images of the table."""

import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.analysis.embedding.map_page import write_map
from mmselfsup_graft.analysis.embedding.report import write_neighbors
from mmselfsup_graft.cli.visualization import map_features, nearest_neighbors
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.embedding.image_table import ImageTable, write_table


@pytest.fixture
def table(tmp_path):
    """Images of two classes and several sizes; the second is a copy of the first, the fifth the same in another file
    format, the last cannot be read.
    """
    rng = np.random.default_rng(0)
    vectors, paths = rng.normal(size=(12, 4)).astype(np.float32), []
    for number in range(12):
        paths.append(str(tmp_path / f'{number:02d}.png'))
        shape = (20 + number, 30, 3) if number % 2 else (20 + number, 30)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(paths[-1])
    shutil.copy(paths[0], paths[1])
    paths[4] = str(tmp_path / '04.bmp')
    Image.open(paths[0]).save(paths[4])
    vectors[[1, 4]] = vectors[0]
    (tmp_path / '11.png').write_bytes(b'no image')
    return ImageTable(paths, ['<b>a', 'c & d'] * 6, vectors)


def complete(text):
    """Whether nothing outside the page is loaded and no script runs."""
    assert '<script' not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert not re.search(r'url\((?!data:)', text)
    assert 'prefers-color-scheme: dark' in text
    assert '<b>a' not in text.replace('&lt;b&gt;a', '')
    return text


def test_map(table, tmp_path):
    assert write_map(table, tmp_path / 'map.html', ['t-SNE', 'PCA']) == 11
    text = complete((tmp_path / 'map.html').read_text())
    assert text.count('class="plane"') == 2
    assert all(text.count(f'class="i{number} ') == 2 for number in range(11))
    assert '1 images cannot be read' in text
    assert f'c &amp; d · {table.paths[1]}' in text


def test_map_of_a_part_without_labels(table, tmp_path):
    plain = ImageTable(table.paths, None, table.vectors)
    assert write_map(plain, tmp_path / 'map.html', ['PCA'], most=5) == 4  # the last cannot be read
    text = complete((tmp_path / 'map.html').read_text())
    assert '4 of 12' in text
    with pytest.raises(DataError, match='a map needs 3'):
        write_map(plain.take(np.array([0, 11])), tmp_path / 'map.html')


def test_neighbors_and_duplicates(table, tmp_path):
    found = write_neighbors(table, tmp_path / 'near.html', [table.paths[0]], count=3)
    assert found.groups == [[0, 1, 4]]
    text = complete((tmp_path / 'near.html').read_text())
    asked = text[text.index('<div class="asked">') : text.index('id="duplicates"')]
    shown = re.findall(r'title="([^"]+)"', asked)
    assert shown[:3] == [table.paths[0], table.paths[1], table.paths[4]]
    with open(tmp_path / 'near_duplicates.csv') as file:
        rows = list(csv.DictReader(file))
    assert [(row['path'], row['kind']) for row in rows] == [
        (table.paths[0], 'same file'),
        (table.paths[1], 'same file'),
        (table.paths[4], 'same pixels'),
    ]
    with open(tmp_path / 'near_outliers.csv') as file:
        assert [row['path'] for row in csv.DictReader(file)] == [table.paths[row] for row in found.outliers]
    with pytest.raises(ConfigError, match='is not one of the 12 images'):
        write_neighbors(table, tmp_path / 'near.html', ['other.png'])


def test_commands(table, tmp_path, capsys):
    write_table(table, tmp_path / 'features.csv')
    page = tmp_path / 'page.html'
    map_features.main([str(tmp_path / 'features.csv'), '--out', str(page), '--methods', 'PCA'])
    assert 'map of 11 images' in capsys.readouterr().out
    nearest_neighbors.main([str(tmp_path / 'features.csv'), '--out', str(page), '--overwrite'])
    assert '3 near-duplicates (groups: 1)' in capsys.readouterr().out
    with pytest.raises(ConfigError, match='exists already'):
        map_features.main([str(tmp_path / 'features.csv'), '--out', str(page)])
    with pytest.raises(ConfigError, match='give --model'):
        map_features.main([str(tmp_path), '--out', str(tmp_path / 'x.html')])
