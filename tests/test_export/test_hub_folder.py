"""Folders of the hub: timm, transformers and this toolbox load them with the features of the checkpoint's own model."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import build, enter_scope

import mmselfsup_graft
from mmselfsup_graft.checkpoints import file_sha256, traits_of
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.pooling import pool_output, token_output
from mmselfsup_graft.export.sharing import hub_layouts
from mmselfsup_graft.export.sharing.hub_folder import write_hub_folder

MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type='SelfSupViT', arch=ARCH, img_size=16, patch_size=4)
ENCODERS: dict[str, dict[str, Any]] = {
    'vit': VIT,
    'vit, mean of patches': {**VIT, 'out_type': 'featmap'},
    'vit, norm of the mean': {**VIT, 'out_type': 'avg_featmap', 'final_norm': False},
    'vit with layer scale and registers': {**VIT, 'layer_scale_init_value': 0.5, 'num_registers': 2},
    'vit, another epsilon': {**VIT, 'norm_cfg': dict(type='LN', eps=1e-3)},
    'vit, another epsilon, mean': {**VIT, 'norm_cfg': dict(type='LN', eps=1e-3), 'out_type': 'featmap'},
    'beit': dict(
        type='mmpretrain.BEiTViT', arch=ARCH, img_size=16, patch_size=4, use_rel_pos_bias=True, out_type='avg_featmap',
        final_norm=False,
    ),
    'resnet': dict(type='mmpretrain.ResNet', depth=18),
    'bottlenecks': dict(type='mmpretrain.ResNet', depth=50),
    'convnext': dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 2, 1, 1], channels=[8, 16, 24, 32])),
    'swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[2, 2, 2, 2]),
        img_size=64,
        patch_size=2,
        window_size=4,
    ),
}  # fmt: skip
LIBRARY = {
    'vit, another epsilon': 'transformers',
    'vit, another epsilon, mean': 'mmselfsup_graft',
    'swin': 'mmselfsup_graft',
}


def encoder_of(case: str) -> Any:
    """An encoder with no weight at a special value."""
    enter_scope()
    torch.manual_seed(0)
    model = build(ENCODERS[case])
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    for name, value in model.named_buffers():
        if name.endswith('running_var'):
            value.uniform_(0.5, 2.0)
    model.eval()
    return model


def write(model: Any, path: Path, **encoder: Any) -> Path:
    meta = {'encoder': {**traits_of(model).as_meta(), 'mean': MEAN, 'std': STD, **encoder}}
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}, 'meta': meta}, path)
    return path


def size_of(case: str) -> int:
    return 16 if 'vit' in case or 'beit' in case else 64


@torch.no_grad()
def expected(model: Any, images: torch.Tensor) -> torch.Tensor:
    """The feature of the encoder, by its own class."""
    patches = getattr(model, 'out_type', 'featmap') in ('featmap', 'avg_featmap')
    return pool_output(model, token_output(model, images), 'patch_mean' if patches else 'class_token')


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path, Any]]:
    place, made = tmp_path_factory.mktemp('hub'), {}
    for case in ENCODERS:
        model = encoder_of(case)
        size = size_of(case)
        source = write(model, place / f'{len(made)}.pth', **({} if 'vit' in case else {'img_size': [size, size]}))
        made[case] = (model, place / f'folder {len(made)}', source)
        done = write_hub_folder(source, made[case][1], 'someone/some-model', license_name='apache-2.0')
        assert done.library == LIBRARY.get(case, 'timm')
        assert done.difference < 1e-5
    return made


def images_of(case: str) -> torch.Tensor:
    size = size_of(case)
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('case', ENCODERS)
@torch.no_grad()
def test_lines_of_the_card_load_it(case: str, folders: Any) -> None:
    """Each block of code is run as it stands, with the folder in the place of the repository."""
    model, folder, _ = folders[case]
    x = images_of(case)
    card = (folder / 'README.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.*?)```', card, re.DOTALL)
    assert len(blocks) == {'timm': 3, 'transformers': 2, 'mmselfsup_graft': 1}[LIBRARY.get(case, 'timm')]
    for block in blocks:
        code = block.replace('hf-hub:someone/some-model', f'local-dir:{folder}').replace(
            'someone/some-model', str(folder)
        )
        raw = x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        scope = {'images': raw if 'mmselfsup_graft' in block else x}
        exec(code, scope)
        actual = scope['features']
        torch.testing.assert_close(actual.flatten(1), expected(model, x).flatten(1), rtol=1e-4, atol=2e-5)


def test_images_of_any_size_and_the_normalization_of_timm(folders: Any) -> None:
    """The toolbox's transforms and timm's give the same feature of a photograph, up to their resizing."""
    import timm
    from PIL import Image

    model, folder, _ = folders['vit']
    loaded = timm.create_model(f'local-dir:{folder}', pretrained=True)
    data = timm.data.resolve_model_data_config(loaded)
    assert tuple(data['input_size']) == (3, 16, 16)
    np.testing.assert_allclose(data['mean'], np.array(MEAN) / 255)
    np.testing.assert_allclose(data['std'], np.array(STD) / 255)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    x = timm.data.create_transform(**data)(Image.fromarray(image))[None]
    found = mmselfsup_graft.Encoder.from_pretrained(folder)([image])
    torch.testing.assert_close(found, expected(model, x), rtol=1e-4, atol=2e-5)


def test_header_of_the_card_and_config(folders: Any) -> None:
    _, folder, source = folders['vit, mean of patches']
    card = (folder / 'README.md').read_text(encoding='utf-8')
    header = yaml.safe_load(card.split('---')[1])
    assert header['license'] == 'apache-2.0'
    assert header['library_name'] == 'timm'
    assert header['pipeline_tag'] == 'image-feature-extraction'
    assert file_sha256(source) in card
    config = json.loads((folder / 'config.json').read_text())['mmselfsup_graft']
    assert config['feature'] == 'patch_mean'
    assert config['encoder']['img_size'] == [16, 16]
    assert config['encoder']['mean'] == MEAN
    assert config['architecture']['blocks'] == [2]
    assert {path.name for path in folder.iterdir()} == {'README.md', 'config.json', 'model.safetensors'}


def row(sha256: str, **changes: Any) -> dict[str, Any]:
    return {
        'protocol': 'knn',
        'settings': {'k': [20], 'temperature': 0.07, 'selection': 'test'},
        'result': {'accuracy': 91.234},
        'selection': 'test',
        'feature': 'class_token',
        'block': None,
        'images': {'train': 1000, 'test': 200},
        'config': '/home/me/configs/a|b.py',
        'checkpoint': '/home/me/work/epoch_3.pth',
        'checkpoint_sha256': sha256,
        **changes,
    }


def test_scores_of_the_card_are_those_of_this_checkpoint(folders: Any, tmp_path: Path) -> None:
    _, _, source = folders['vit']
    shots = {'1': {'mean': 70.5, 'std': 2.25}, '10': {'mean': 80.0, 'std': 0.5}}
    sha256 = file_sha256(source)
    rows = [row('0' * 64, result={'accuracy': 12.5}), row(sha256), row(sha256, protocol='few_shot', result=shots)]
    (tmp_path / 'results.jsonl').write_text(''.join(json.dumps(each) + '\n' for each in rows))
    done = write_hub_folder(source, tmp_path / 'out', 'a/b', results=tmp_path / 'results.jsonl')
    assert done.rows == 2
    card = (tmp_path / 'out' / 'README.md').read_text(encoding='utf-8')
    table = [line.split(' | ') for line in card.splitlines() if line.startswith('|')]
    assert len(table) == 4
    assert table[2][0] == '| knn'
    assert table[2][1] == r'a\|b (1,000 train, 200 test)'
    assert table[2][2] == '91.23 %'
    assert table[3][2] == '1 per class: 70.50 ± 2.25 %, 10 per class: 80.00 ± 0.50 %'
    assert table[2][5] == 'k=[20], temperature=0.07 |'
    assert '/home' not in card
    assert 'license' not in yaml.safe_load(card.split('---')[1])
    with pytest.raises(ConfigError, match='none of the 1 result rows is of'):
        write_hub_folder(source, tmp_path / 'other', 'a/b', results=rows[:1])
    assert not (tmp_path / 'other').exists()


@torch.no_grad()
def test_a_classifier_with_the_names_of_its_classes(tmp_path: Path) -> None:
    import timm
    import transformers

    enter_scope()
    torch.manual_seed(0)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=3, loss=dict(type='mmpretrain.CrossEntropyLoss'))
    model = build(dict(type='GraftedClassifier', backbone=VIT, head=head)).eval()
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    encoder = {**traits_of(model).as_meta(), 'mean': MEAN, 'std': STD}
    meta = {'encoder': encoder, 'dataset_meta': {'classes': ['ant', 'bee', 'cat']}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, tmp_path / 'in.pth')
    x = images_of('vit')
    logits, features = model.head(model.backbone(x)), model.backbone(x)[-1]
    for library in ('timm', 'transformers'):
        folder = tmp_path / library
        write_hub_folder(tmp_path / 'in.pth', folder, 'a/b', library=library, classifier=True)
        found = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        assert found.config.id2label == {0: 'ant', 1: 'bee', 2: 'cat'}
        torch.testing.assert_close(found(x).logits, logits, rtol=1e-4, atol=2e-5)
        blocks = re.findall(r'```python\n(.*?)```', (folder / 'README.md').read_text(), re.DOTALL)
        assert 'AutoModelForImageClassification' in ''.join(blocks)
        raw = x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        own = mmselfsup_graft.Encoder.from_pretrained(folder)
        torch.testing.assert_close(own(raw), features, rtol=1e-4, atol=2e-5)
    again = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    torch.testing.assert_close(again(x), logits, rtol=1e-4, atol=2e-5)
    assert again.pretrained_cfg['label_names'] == ['ant', 'bee', 'cat']


def test_a_model_that_a_library_loads_otherwise_is_not_written(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, source = folders['vit']
    loaders = {**hub_layouts._LOADERS, 'timm': lambda folder, x: hub_layouts._by_timm(folder, x) + 0.01}
    monkeypatch.setattr(hub_layouts, '_LOADERS', loaders)
    with pytest.raises(CheckpointError, match=r'nothing written: .* timm loads differ by'):
        write_hub_folder(source, tmp_path / 'out', 'a/b')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['name', '../name', 'a/b/c', '-a/b', 'a/..', ''])
def test_names_of_repositories(name: str, folders: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='expected user/name'):
        write_hub_folder(folders['vit'][2], tmp_path / 'out', name)


def test_a_folder_with_files_is_kept(folders: Any, tmp_path: Path) -> None:
    (tmp_path / 'kept').write_text('mine')
    with pytest.raises(ConfigError, match='not an empty folder'):
        write_hub_folder(folders['vit'][2], tmp_path, 'a/b')
    with pytest.raises(CheckpointError, match='a backbone of the family swin, which target timm'):
        write_hub_folder(folders['swin'][2], tmp_path / 'out', 'a/b', library='timm')


def test_only_safetensors_are_loaded(tmp_path: Path, folders: Any) -> None:
    (tmp_path / 'pytorch_model.bin').write_bytes(folders['vit'][2].read_bytes())
    with pytest.raises(CheckpointError, match=r'has no model\.safetensors'):
        mmselfsup_graft.Encoder.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match='is a file'):
        mmselfsup_graft.Encoder.from_pretrained(folders['vit'][2])
    with pytest.raises(ConfigError, match='neither a folder nor'):
        mmselfsup_graft.Encoder.from_pretrained(tmp_path / 'no' / 'folder')
