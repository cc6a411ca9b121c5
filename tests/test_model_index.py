"""The model index: every config of an algorithm is listed once, its files exist, its numbers are the config's."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_cache import load_config

ROOT = Path(__file__).resolve().parents[1]
METAFILES = sorted((ROOT / 'configs').glob('*/metafile.yml'))
ALGORITHMS = {'a2mim', 'layer_grafted', 'mae', 'moco', 'mocov3', 'multi_task', 'simmim', 'swav', 'tec'}
DOWNSTREAM = {'mmdetection', 'mmsegmentation'}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


MODELS = [model for path in METAFILES for model in read(path)['Models']]
# the others' configs need mmdet and mmseg: tests/test_downstream/test_index.py
PRETRAINING = [model for model in MODELS if Path(model['Config']).parts[1] not in DOWNSTREAM]
DETECTION = [model for model in MODELS if Path(model['Config']).parts[1] in DOWNSTREAM]
FINETUNE = ROOT / 'configs' / 'benchmarks' / 'finetune' / 'README.md'
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
    # images per step of the optimizer; auto_scale_lr counts without accumulation
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert model['Metadata']['Batch Size'] == processes * cfg.train_dataloader.batch_size * steps
    assert model['Metadata']['Batch Size'] == cfg.auto_scale_lr.base_batch_size * steps
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
    published = figures(model)
    cell = row.get('published figure (paper)', '-')
    assert [float(number) for number in re.findall(r'\d+\.\d+', cell)] == published


@pytest.mark.parametrize('model', DETECTION, ids=lambda model: model['Name'])
def test_the_table_of_a_downstream_readme_says_what_the_metafile_says(model: dict[str, Any]):
    row = TABLES[Path(model['Config']).parts[1]][model['Name']]
    (cell,) = [value for header, value in row.items() if header.startswith('published')]
    published = figures(model)
    assert [float(number) for number in re.findall(r'\d+\.\d+', cell)] == published


# ---------------------------------------------------------------- published figures
# the only figures that the metafiles may repeat: accuracy in per cent, AP or mIoU (specifications of the methods, MAE's
# FINETUNE.md, MoCo v3's CONFIG.md); configs without a row have none
PUBLISHED: dict[str, list[float]] = {
    'swav_resnet50_64xb64-amp-coslr-100e_in1k': [72.1],
    'swav_resnet50_64xb64-amp-coslr-200e_in1k': [73.9],
    'swav_resnet50_64xb64-amp-coslr-400e_in1k': [74.6],
    'swav_resnet50_64xb64-amp-coslr-800e_in1k': [75.3, 53.9],
    'swav-2x224_resnet50_64xb64-amp-coslr-400e_in1k': [70.1],
    'swav_resnet50_4xb64-amp-coslr-200e_in1k': [72.7],
    'swav_resnet50_4xb64-amp-coslr-400e_in1k': [74.3],
    'swav_resnet50-w128_128xb32-amp-coslr-400e_in1k': [77.3],
    'swav_resnet50-w256_64xb40-amp-coslr-400e_in1k': [77.9],
    'a2mim_vit-small-p16_8xb256-steplr-800e_in1k': [82.1],
    'a2mim_vit-base-p16_8xb128-steplr-800e_in1k': [84.3, 84.2],  # detail table, summary
    'a2mim_vit-large-p16_8xb128-steplr-800e_in1k': [86.1],
    'a2mim_resnet50_8xb256-coslr-100e_in1k': [78.8],
    'a2mim_resnet50_8xb256-coslr-300e_in1k': [80.4, 78.9],  # RSB A2, A3
    'a2mim_resnet101_8xb256-coslr-300e_in1k': [81.9, 80.3],
    'a2mim_resnet152_8xb256-coslr-300e_in1k': [82.5, 80.9],
    'a2mim_resnet200_8xb256-coslr-300e_in1k': [83.0],
    'a2mim_convnext-small_8xb256-amp-coslr-300e_in1k': [83.7],
    'a2mim_convnext-base_8xb256-amp-coslr-300e_in1k': [84.1],
    'a2mim_resnet50_4xb256-amp-coslr-800e_in100-192px': [89.32],
    'a2mim-l8_deit-small-p16_4xb256-coslr-800e_in100-192px': [87.24],
    'a2mim-mlp_deit-small-p16_4xb256-coslr-800e_in100-192px': [87.24],
    'simmim_vit-small-p16_8xb256-amp-steplr-800e_in1k': [81.7],
    'simmim_vit-base-p16_8xb128-steplr-800e_in1k': [83.8],
    'simmim_vit-large-p16_8xb128-amp-steplr-800e_in1k': [85.6],
    'simmim_resnet50_8xb256-amp-coslr-300e_in1k': [79.9],
    'simmim_resnet101_8xb256-amp-coslr-300e_in1k': [81.3],
    'simmim_resnet152_8xb256-amp-coslr-300e_in1k': [81.9],
    'simmim_resnet200_8xb256-amp-coslr-300e_in1k': [82.2],
    'simmim-visible_convnext-small_8xb256-amp-coslr-300e_in1k': [83.2],
    'simmim-visible_convnext-base_4xb256-amp-coslr-300e_in1k': [83.6],
    'tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k': [84.7],
    'tec-mae_vit-base-p16_8xb512-amp-coslr-800e_in1k': [84.8],
    'tec-ibot_vit-base-p16_8xb512-amp-coslr-300e_in1k': [84.8],
    'tec-ibot_vit-base-p16_8xb512-amp-coslr-800e_in1k': [85.1],
    'tec-mae_vit-large-p16_8xb512-amp-coslr-300e_in1k': [86.5],
    'tec-mae300e_vit-base-p16_8xb512-amp-coslr-100e_in1k': [83.9],
    'mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k': [83.664, 68.0, 67.8],  # fine-tuned; probe: paper, repository
    'mae_vit-large-p16_8xb512-amp-coslr-1600e_in1k': [85.952, 75.8, 76.0],
    'mae_vit-huge-p14_8xb512-amp-coslr-1600e_in1k': [86.928, 76.6, 77.2],
    'moco-v1_resnet50_8xb32-steplr-200e_in1k': [60.8],
    'moco-v2_resnet50_8xb32-coslr-200e_in1k': [67.5],
    'moco-v2_resnet50_8xb32-coslr-800e_in1k': [71.1],
    'mocov3_vit-small-p16_8xb512-amp-coslr-300e_in1k': [73.2],
    'mocov3_vit-base-p16_8xb512-amp-coslr-300e_in1k': [76.7],
    'mocov3_resnet50_8xb512-amp-coslr-100e_in1k': [68.9],
    'mocov3_resnet50_8xb512-amp-coslr-300e_in1k': [72.8],
    'mocov3_resnet50_8xb512-amp-coslr-1000e_in1k': [74.6],
    'layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k': [65.5],
    'multi-task_vit-base-p16_64xb64-amp-coslr-300e_in1k': [68.4],
    'byol_resnet50_32xb128-amp-coslr-300e_in1k': [72.5],
    'byol_resnet50_32xb128-amp-coslr-1000e_in1k': [74.3],
    'mask-rcnn_r50-a2mim-pre_fpn-syncbn_ms-2x_coco': [39.8, 34.9],  # box, mask
    'mask-rcnn_r50-mocov2-pre_fpn_1x_coco': [38.0, 34.3],
    'mask-rcnn_r50-mocov2-pre_fpn_ms-2x_coco': [40.8, 36.8],
    'mask-rcnn_r50-swav-pre_fpn_1x_coco': [39.1, 35.7],
    'mask-rcnn_r50-swav-pre_fpn_ms-2x_coco': [41.3, 37.3],
    'upernet_vit-base-p16-mae-pre_8xb2-160k_ade20k-512x512': [48.13],
    'upernet_vit-base-p16-tec-pre_8xb2-160k_ade20k-512x512': [51.0],
    'upernet_vit-base-p16-a2mim-pre_8xb2-160k_ade20k-512x512': [49.0],
    'fcn_r50-d8-a2mim-pre_4xb4-160k_ade20k-512x512': [38.3],
}


def figures(model: dict[str, Any]) -> list[float]:
    return [value for result in model.get('Paper Results', []) for value in result['Metrics'].values()]


# others' methods may be listed too; ours are held by the table
HELD = {path.parent.name for path in METAFILES} & (ALGORITHMS | DOWNSTREAM | {'byol'})


def test_metafiles_repeat_the_published_figures_and_no_others():
    found = {model['Name']: figures(model) for model in MODELS if Path(model['Config']).parts[1] in HELD}
    assert {name: values for name, values in found.items() if values} == PUBLISHED


#: name in a table of benchmarks -> start of the names of the configs that it means
METHODS = {'MAE': 'mae_', 'MIM': 'mae_', 'CL': 'mocov3_', 'MoCo v3': 'mocov3_', 'multi-task': 'multi-task_'}
METHODS |= {
    'MoCo v1': 'moco-v1_',
    'MoCo v2': 'moco-v2_',
    'SwAV': 'swav_',
    'LGP': 'layer-grafted_',
    'SimMIM': 'simmim',
    'A2MIM': 'a2mim',
    'TEC': 'tec-',
}
BENCHMARKS = {**table_rows(ROOT / 'configs/benchmarks/README.md'), **table_rows(FINETUNE)}


def test_benchmarks_repeat_figures_of_the_metafiles():
    """Every figure in their tables is one of the method, on the network that the config is for."""
    seen = 0
    for name, row in BENCHMARKS.items():
        network = name.split('_')[1]
        cell = re.sub(r'\(\d+\)', '', row['published figure (paper)'])
        default = 'TEC' if name.startswith('finetune-tec-') else ''
        for said, number in re.findall(r'([A-Za-z][\w -]*?)?\s*\b(\d+\.\d+)', cell):
            default = said if said in METHODS else default
            known = [v for each, values in PUBLISHED.items() for v in values if fits(each, METHODS[default], network)]
            assert float(number) in known, (name, default, number)
            seen += 1
    assert seen > 40


def fits(name: str, start: str, network: str) -> bool:
    return name.startswith(start) and name.split('_')[1] == network


def test_every_benchmark_is_in_a_table():
    files = {path.stem for path in (ROOT / 'configs' / 'benchmarks').rglob('*.py')}
    folders = {name for name in files if '_folder-' in name}  # no figures are published: linked in the text
    text = ''.join(path.read_text(encoding='utf-8') for path in (ROOT / 'configs/benchmarks/README.md', FINETUNE))
    assert BENCHMARKS.keys() == files - folders
    assert folders == set(re.findall(r'\((?:\w+/)?([\w-]+_folder-\d+px)\.py\)', text))


@pytest.mark.parametrize('folder', TABLES)
def test_tables_of_configs_are_found(folder: str):
    assert TABLES[folder]
