"""Converted files of more kinds of ViT: the printed lines build the model, with the features of plain torch."""

import functools
import re
from pathlib import Path
from typing import Any

import plain_vit
import pytest
import torch
from helpers import build

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file
from mmselfsup_graft.export.publish import publish_file
from mmselfsup_graft.libraries.scopes import register_all_modules

KINDS: dict[str, dict[str, Any]] = {
    'plain': {},
    'layer scale': {'scale': True},
    'registers': {'registers': 4},
    'dinov2': {'scale': True, 'registers': 4},
    'norms of queries and keys': {'qk_norm': True},
    'norm before': {'pre_norm': True},
    'oblong': {'grid': (2, 8)},
}
NOT_IN_HF = ('registers', 'norms of queries and keys', 'norm before')


@pytest.fixture(scope='module', autouse=True)
def registered() -> None:
    register_all_modules()


def write(state: plain_vit.State, path: Path, **encoder: Any) -> Path:
    content: dict[str, Any] = {'state_dict': state}
    torch.save({**content, 'meta': {'encoder': encoder}} if encoder else content, path)
    return path


def built(text: str) -> Any:
    """The model of the lines that begin with ``use:``, run as they stand."""
    import timm
    import torchvision
    import transformers

    lines = text[text.index('use: ') + 5 :].split('\n')
    code = [line.strip() for line in lines if line.strip().startswith(('model', 'model.'))]
    libraries = {'timm': timm, 'torchvision': torchvision, 'transformers': transformers}
    scope: dict[str, Any] = {**libraries, 'torch': torch, 'functools': functools}
    exec('\n'.join(code), scope)
    return scope['model'].eval()


def configured(text: str) -> Any:
    """The backbone of the config in the line that begins with ``use:``, filled from the file that it names."""
    found = re.search(r'use: backbone=(dict\(.*\))', text)
    assert found
    config = eval(found[1])
    graft = re.search(r'with graft=(\[.*\])', text)
    file = eval(graft[1])[0]['checkpoint'] if graft else config.pop('init_cfg')['checkpoint']
    config.pop('out_type', None)
    model = build({**config, 'out_type': 'raw'})
    model.load_state_dict(read_checkpoint(file)['state_dict'])
    return model.eval() or model


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('target', ['timm', 'hf', 'mmpretrain'])
@torch.no_grad()
def test_features_are_those_of_plain_torch(kind: str, target: str, tmp_path: Path) -> None:
    made = KINDS[kind]
    grid = made.get('grid', plain_vit.GRID)
    state, x = plain_vit.make(**made), plain_vit.images(grid)
    source = write(state, tmp_path / 'in.pth', num_heads=4, grid=list(grid))
    if target == 'hf' and kind in NOT_IN_HF:
        with pytest.raises(CheckpointError, match='target hf cannot take'):
            convert_file(source, tmp_path / 'out.pth', ConvertOptions(target))
        return
    text = convert_file(source, tmp_path / 'out.pth', ConvertOptions(target)).text
    assert 'every tensor fits' in text
    # the only ViTs of timm with a norm before the blocks are those of CLIP, whose norms have this epsilon
    expected = plain_vit.tokens(state, x, eps=1e-5 if made.get('pre_norm') else 1e-6)
    if target == 'timm':
        actual = built(text).forward_features(x)
    elif target == 'hf':
        model = built(text)
        assert set(read_checkpoint(tmp_path / 'out.pth')['state_dict']) <= set(model.state_dict())
        actual = model(x).last_hidden_state
    else:
        actual = configured(text)(x)[-1]
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize('heads', [1, 4, 8])
@torch.no_grad()
def test_heads_that_no_shape_tells(heads: int, tmp_path: Path) -> None:
    """From meta, from the text of an old config, by the option; otherwise assumed and said."""
    state, x = plain_vit.make(), plain_vit.images()
    expected = plain_vit.tokens(state, x, heads)
    told = write(state, tmp_path / 'told.pth', num_heads=heads)
    backbone = f"dict(type='SelfSupViT', arch=dict(num_heads={heads}), img_size=16, patch_size=4)"
    text = f'model = dict(\n    backbone={backbone})\n'
    old = tmp_path / 'old.pth'
    torch.save({'state_dict': state, 'meta': {'cfg': text}}, old)
    bare = write(state, tmp_path / 'bare.pth')
    for number, (path, options) in enumerate(
        [(told, {}), (old, {}), (bare, {'num_heads': heads}), (told, {'num_heads': heads})]
    ):
        done = convert_file(path, tmp_path / f'{number}.pth', ConvertOptions('timm', **options))
        assert 'assumed' not in done.text
        torch.testing.assert_close(built(done.text).forward_features(x), expected, rtol=0, atol=5e-5)
        # a converted file knows them again
        again = convert_file(tmp_path / f'{number}.pth', tmp_path / f'{number}b.pth', ConvertOptions('mmpretrain'))
        torch.testing.assert_close(configured(again.text)(x)[-1], expected, rtol=0, atol=5e-5)
    assumed = convert_file(bare, tmp_path / 'assumed.pth', ConvertOptions('timm')).text
    assert 'num_heads=1 is assumed' in assumed
    with pytest.raises(CheckpointError, match='3 attention heads do not divide'):
        convert_file(bare, tmp_path / 'odd.pth', ConvertOptions('timm', num_heads=3))


@torch.no_grad()
def test_another_epsilon(tmp_path: Path) -> None:
    state, x = plain_vit.make(), plain_vit.images()
    source = write(state, tmp_path / 'in.pth', num_heads=4, norm_eps=0.1)
    expected = plain_vit.tokens(state, x, eps=0.1)
    timm = convert_file(source, tmp_path / 'a.pth', ConvertOptions('timm')).text
    torch.testing.assert_close(built(timm).forward_features(x), expected, rtol=0, atol=5e-5)
    mm = convert_file(source, tmp_path / 'b.pth', ConvertOptions('mmpretrain')).text
    torch.testing.assert_close(configured(mm)(x)[-1], expected, rtol=0, atol=5e-5)


def test_the_text_of_a_config_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / 'ran'
    text = (
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nheads = __import__('os').system('touch {marker}')\n"
        f"model = dict(x=open({str(marker)!r}, 'w'), backbone=dict(type='SelfSupViT', arch=dict(num_heads=4, "
        'embed_dims=[i for i in range(3)]), img_size=16, patch_size=4))\n'
    )
    torch.save({'state_dict': plain_vit.make(), 'meta': {'cfg': text}}, tmp_path / 'in.pth')
    done = convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', ConvertOptions('timm'))
    assert not marker.exists()
    assert done.conversion.traits.num_heads == 4
    for broken in ('model = dict(' * 5000, 'model = \x00', '((((', 'model = 3', 'model = dict(backbone=[1])'):
        torch.save({'state_dict': plain_vit.make(), 'meta': {'cfg': broken}}, tmp_path / 'in.pth')
        assert convert_file(tmp_path / 'in.pth', tmp_path / 'x.pth', ConvertOptions('timm', overwrite=True)).path


@pytest.mark.parametrize(
    'wrong',
    [{'num_heads': 'x'}, {'grid': [4]}, {'std': [0.0]}, {'norm_eps': -1}, {'strides': [1, 0]}, {'dilations': 2}],
)
def test_traits_that_cannot_be(wrong: dict[str, Any], tmp_path: Path) -> None:
    source = write(plain_vit.make(), tmp_path / 'in.pth', **wrong)
    with pytest.raises(CheckpointError, match=rf"meta\['encoder'\]\['{next(iter(wrong))}'\] is .*, expected"):
        convert_file(source, tmp_path / 'out.pth', ConvertOptions('timm'))


# ---------------------------------------------------------------- what could not be verified is not written
def narrow_resnet() -> plain_vit.State:
    return build({'type': 'mmpretrain.ResNet', 'depth': 18, 'stem_channels': 8, 'base_channels': 8}).state_dict()


@pytest.mark.parametrize(
    ('state', 'target', 'reason'),
    [
        (narrow_resnet, 'torchvision', 'stem of 8 channels'),
        (lambda: plain_vit.make((3, 4)), 'timm', 'their size is unknown'),
        (lambda: plain_vit.make((2, 3)), 'mmdet', 'their size is unknown'),
    ],
)
def test_not_verified_is_not_written(state: Any, target: str, reason: str, tmp_path: Path) -> None:
    source = write(state(), tmp_path / 'in.pth')
    out = tmp_path / 'out.pth'
    with pytest.raises(CheckpointError, match=f'nothing written: .*{reason}.*--unverified'):
        convert_file(source, out, ConvertOptions(target))
    assert not out.exists()
    assert convert_file(source, out, ConvertOptions(target), dry_run=True).path is None
    done = convert_file(source, out, ConvertOptions(target, unverified=True))
    assert done.path == out
    assert reason in done.text


def test_a_release_is_verified_by_its_way_back(tmp_path: Path) -> None:
    swin = {'embed_dims': 8, 'depths': [1, 1, 1, 1], 'num_heads': [2, 2, 2, 2]}
    config = {'type': 'mmpretrain.SwinTransformer', 'arch': swin, 'img_size': 64, 'patch_size': 2, 'window_size': 4}
    source = write(build(config).state_dict(), tmp_path / 'in.pth')
    text = convert_file(source, tmp_path / 'out.pth', ConvertOptions('official')).text
    assert 'converted back and loaded into mmpretrain.SwinTransformer: every tensor fits' in text


def test_published_files_carry_what_no_tensor_tells(tmp_path: Path) -> None:
    backbone = {f'backbone.{n}': v for n, v in build(plain_vit.config()).state_dict().items()}
    text = (
        "model = dict(backbone=dict(type='SelfSupViT', arch=dict(num_heads=4), img_size=16, patch_size=4), "
        'data_preprocessor=dict(mean=[33.3], std=[7.5]))'
    )
    torch.save({'state_dict': backbone, 'meta': {'cfg': text}}, tmp_path / 'run.pth')
    path, _ = publish_file(tmp_path / 'run.pth', tmp_path / 'out.pth')
    wanted = {'num_heads': 4, 'grid': [4, 4], 'img_size': [16, 16], 'mean': [33.3], 'std': [7.5]}
    assert read_checkpoint(path)['meta']['encoder'] == wanted
    done = convert_file(path, tmp_path / 'timm.pth', ConvertOptions('timm'))
    assert read_checkpoint(tmp_path / 'timm.pth')['meta']['encoder'] == wanted
    assert 'mean=[33.3], std=[7.5]' in done.text
    torch.save({'state_dict': {'backbone.something.weight': torch.zeros(2)}}, tmp_path / 'odd.pth')
    with pytest.raises(CheckpointError, match=r'nothing written: .*--unverified'):
        publish_file(tmp_path / 'odd.pth', tmp_path / 'odd_out.pth')
    publish_file(tmp_path / 'odd.pth', tmp_path / 'odd_out.pth', unverified=True)
