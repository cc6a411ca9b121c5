"""Notebooks are stored without outputs and run, with fewer images and epochs."""

import json

import pytest
from notebooks import NOTEBOOKS, ROOT, cells_of, execute, tags_of

FOLDER = ROOT / 'examples' / 'notebooks'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    book = json.loads(path.read_text())
    assert book['nbformat'] == 4
    code = [cell for cell in book['cells'] if cell['cell_type'] == 'code']
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code)
    assert set(book['metadata']) <= {'kernelspec', 'language_info'}
    identifiers = [cell['id'] for cell in book['cells']]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_first_code_cell_installs(path):
    first, *others = [cell for cell in cells_of(path) if cell['cell_type'] == 'code']
    assert tags_of(first) == ['install']
    assert '<this repository>' in ''.join(first['source'])
    assert [tags_of(cell) for cell in others].count(['parameters']) == 1
    assert not any(line.lstrip().startswith(('!', '%')) for cell in others for line in cell['source'])


def test_listed():
    page = (FOLDER / 'README.md').read_text()
    assert all(f']({path.name})' in page for path in NOTEBOOKS)
    assert len(NOTEBOOKS) == 3


def test_cascade(tmp_path):
    names = execute(FOLDER / 'cascade.ipynb', IMAGES=100, EPOCHS=1, BATCH=32, WORK=str(tmp_path))
    assert names['scores'].keys() == {'MAE', 'LGP'}
    assert all(0 <= value <= 100 for row in names['scores'].values() for value in row.values())
    assert names['table'].vectors.shape == (100, 64)


def test_look_inside(tmp_path):
    few = dict(images=2, pairs=2, contexts=2)
    sizes = dict(IMAGES=100, EPOCHS=1, FINETUNING_EPOCHS=1, BATCH=32, SAMPLES=few)
    execute(FOLDER / 'look_inside.ipynb', WORK=str(tmp_path), **sizes)
    assert list((tmp_path / 'spectrum').glob('*.png'))
    assert list((tmp_path / 'interaction').glob('*.csv'))
