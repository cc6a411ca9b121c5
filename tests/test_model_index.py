"""The model index: every config of an algorithm is listed once, its files exist, its numbers are the config's."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_cache import load_config

ROOT = Path(__file__).resolve().parents[1]
METAFILES = sorted((ROOT / 'configs').glob('*/metafile.yml'))
ALGORITHMS = {'a2mim', 'layer_grafted', 'mae', 'moco', 'mocov3', 'multi_task', 'simmim', 'tec'}
DOWNSTREAM = {'mmdetection', 'mmsegmentation'}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


MODELS = [model for path in METAFILES for model in read(path)['Models']]
# the others' configs need mmdet and mmseg: tests/test_downstream/test_index.py
PRETRAINING = [model for model in MODELS if Path(model['Config']).parts[1] not in DOWNSTREAM]
COLLECTIONS = [collection for path in METAFILES for collection in read(path)['Collections']]


def test_the_index_imports_every_metafile_once():
    imported = read(ROOT / 'model-index.yml')['Import']
    assert sorted(imported) == [path.relative_to(ROOT).as_posix() for path in METAFILES]
    assert {path.parent.name for path in METAFILES} >= ALGORITHMS | DOWNSTREAM


def test_every_config_beside_a_metafile_is_listed_exactly_once():
    listed = sorted(model['Config'] for model in MODELS)
    present = [path.relative_to(ROOT).as_posix() for file in METAFILES for path in file.parent.glob('*.py')]
    assert listed == sorted(present)


@pytest.mark.parametrize('path', METAFILES, ids=lambda path: path.parent.name)
def test_a_metafile_lists_the_configs_of_its_own_folder_and_collection(path: Path):
    content = read(path)
    names = {collection['Name'] for collection in content['Collections']}
    for model in content['Models']:
        assert (ROOT / model['Config']).parent == path.parent
        assert model['In Collection'] in names


@pytest.mark.parametrize('collection', COLLECTIONS, ids=lambda collection: collection['Name'])
def test_a_collection_names_its_paper_and_files_that_exist(collection: dict[str, Any]):
    assert re.fullmatch(r'https://arxiv\.org/abs/\d{4}\.\d{4,5}', collection['Paper']['URL'])
    assert (ROOT / collection['README']).is_file()
    if collection['README'].split('/')[1] not in DOWNSTREAM:
        assert (ROOT / collection['Code']['URL']).is_file()


@pytest.mark.parametrize('model', PRETRAINING, ids=lambda model: model['Name'])
def test_a_model_agrees_with_its_config(model: dict[str, Any]):
    assert model['Name'] == Path(model['Config']).stem
    cfg = load_config(ROOT / model['Config'])
    processes = int(re.search(r'_(\d+)xb(\d+)-', model['Name'])[1])
    assert cfg.train_dataloader.batch_size == int(re.search(r'_(\d+)xb(\d+)-', model['Name'])[2])
    assert model['Metadata']['Batch Size'] == processes * cfg.train_dataloader.batch_size
    assert model['Metadata']['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].get('end', cfg.train_cfg.max_epochs) == cfg.train_cfg.max_epochs
    assert f'-{cfg.train_cfg.max_epochs}e_' in model['Name']


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_a_model_claims_nothing_that_is_not_ours(model: dict[str, Any]):
    assert model['Weights'] is None, 'no weights are published: say so in the README before changing this'
    assert model['Results'] == [], 'results of ours need a record'
    for result in model.get('Paper Results', []):
        assert set(result) == {'Task', 'Dataset', 'Metrics', 'Source'}


@pytest.mark.parametrize('path', METAFILES, ids=lambda path: path.parent.name)
def test_the_readme_links_every_config_of_its_folder(path: Path):
    text = (path.parent / 'README.md').read_text(encoding='utf-8')
    for config in path.parent.glob('*.py'):
        assert f'({config.name})' in text, f'{path.parent.name}/README.md does not link {config.name}'


@pytest.mark.parametrize('path', METAFILES, ids=lambda path: path.parent.name)
def test_the_readme_of_the_project_links_every_collection(path: Path):
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert f'(configs/{path.parent.name}/README.md)' in text, 'add a row to the table "Methods"'


def table_rows(path: Path) -> dict[str, dict[str, str]]:
    """Name of a config -> header -> cell, of every table of a README that lists configs; notes like ``(1)`` are cut."""
    rows: dict[str, dict[str, str]] = {}
    header: list[str] = []
    for line in path.read_text(encoding='utf-8').splitlines():
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')] if line.startswith('|') else []
        if cells and cells[0] == 'config':
            header = cells
        link = re.fullmatch(r'\[[^\]]+\]\((?:\S*/)?([\w.-]+)\.py\)', cells[0]) if cells and header else None
        if link:
            rows[link[1]] = {name: re.sub(r'\s*\(\d+\)$', '', cell) for name, cell in zip(header, cells, strict=True)}
        header = header if cells else []
    return rows


TABLES = {path.parent.name: table_rows(path.parent / 'README.md') for path in METAFILES}


@pytest.mark.parametrize('model', PRETRAINING, ids=lambda model: model['Name'])
def test_the_table_of_the_readme_says_what_the_metafile_says(model: dict[str, Any]):
    row = TABLES[Path(model['Config']).parts[1]].get(model['Name'])
    if row is None:  # linked in the text
        return
    metadata = model['Metadata']
    assert int(row.get('epochs', metadata['Epochs'])) == metadata['Epochs']
    assert int(row.get('batch', metadata['Batch Size'])) == metadata['Batch Size']
    published = [value for result in model.get('Paper Results', []) for value in result['Metrics'].values()]
    cell = row.get('published figure (paper)', '-')
    assert [float(number) for number in re.findall(r'\d+\.\d+', cell)] == published


@pytest.mark.parametrize('folder', TABLES)
def test_tables_of_configs_are_found(folder: str):
    assert TABLES[folder]
