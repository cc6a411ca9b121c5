"""The converters as commands: what they write, what they say, and what they refuse."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, moco_config, vit_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_tools.tiny_runs import Outcome, call_tool, load, start_tool

from mmselfsup_graft.utils.files import whole_file

State = dict[str, torch.Tensor]
CONVERT, MMDET = 'model_converters/convert', 'model_converters/selfsup2mmdet'


@pytest.fixture(scope='module')
def resnet() -> State:
    torch.manual_seed(0)
    return build({'type': 'mmpretrain.ResNet', 'depth': 18, 'stem_channels': 4, 'base_channels': 4}).state_dict()


@pytest.fixture(scope='module')
def files(resnet: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a MoCo, a SwAV and an own MoCo v3 checkpoint."""
    folder = tmp_path_factory.mktemp('files')
    head = {f'fc.{i}.{part}': torch.zeros(2) for i in (0, 2) for part in ('weight', 'bias')}
    state = {f'module.encoder_{side}.{n}': v for side in 'qk' for n, v in {**resnet, **head}.items()}
    state |= {'module.queue': torch.zeros(2, 3), 'module.queue_ptr': torch.zeros(1, dtype=torch.long)}
    torch.save({'epoch': 1, 'arch': 'resnet18', 'state_dict': state, 'optimizer': {}}, folder / 'moco.pth')
    swav = {f'module.{n}': v for n, v in resnet.items()}
    swav |= {f'module.projection_head.{i}.weight': torch.zeros(1) for i in (0, 1, 3)}
    torch.save({**swav, 'module.prototypes.weight': torch.zeros(1)}, folder / 'swav.pth')
    own = build(moco_config(vit_config(width=16))).state_dict()
    torch.save({'state_dict': own, 'meta': {'epoch': 3}}, folder / 'own.pth')
    return folder


def same(actual: State, expected: State) -> bool:
    return actual.keys() == expected.keys() and all(torch.equal(actual[n], v) for n, v in expected.items())


def mmdet(*arguments: Any) -> Outcome:
    return call_tool(MMDET, *arguments, '--no-verify')  # mmdet is an extra


# ---------------------------------------------------------------- what is said
@pytest.mark.parametrize(
    ('target', 'words'),
    [
        ('mmpretrain', 'use_abs_pos_emb=True, use_rel_pos_bias=True, '),
        ('mmseg', 'layer_scale_init_value=0.1, final_norm=False'),
        ('timm', 'use_abs_pos_emb=True, use_rel_pos_bias=True, '),
    ],
)
def test_what_a_vit_with_relative_positions_must_be_built_with(target: str, words: str, tmp_path: Path) -> None:
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    model = build(dict(type='MaskedBEiT', arch=arch, img_size=64, patch_size=16))
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}}, tmp_path / 'a.pth')
    done = call_tool(CONVERT, tmp_path / 'a.pth', tmp_path / 'b.pth', '--to', target, '--no-verify')
    assert done.code == 0, done.err
    assert words in done.out


def test_a_table_that_blocks_share_stays_one_on_request(tmp_path: Path) -> None:
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    config = dict(type='MaskedBEiT', arch=arch, img_size=64, patch_size=16)
    model = build(dict(config, use_rel_pos_bias=False, use_shared_rel_pos_bias=True))
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}}, tmp_path / 'a.pth')
    name = 'rel_pos_bias.relative_position_bias_table'
    for option, words in (
        ('--expand-shared-rel-pos', 'use_rel_pos_bias=True, use_shared_rel_pos_bias=False'),
        ('--no-expand-shared-rel-pos', 'use_rel_pos_bias=False, use_shared_rel_pos_bias=True'),
    ):
        written = tmp_path / f'{option}.pth'
        done = call_tool(CONVERT, tmp_path / 'a.pth', written, '--to', 'mmpretrain', option)
        assert done.code == 0, done.err
        assert words in done.out
        assert 'every tensor fits' in done.out
        assert (name in load(written)['state_dict']) == option.startswith('--no')


def test_how_a_wide_resnet_is_built_is_said(resnet: State, tmp_path: Path) -> None:
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in resnet.items()}}, tmp_path / 'narrow.pth')
    done = call_tool(CONVERT, tmp_path / 'narrow.pth', tmp_path / 'out.pth', '--to', 'mmpretrain')
    assert "type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4, in_channels=3, init_cfg=" in done.out
    widened = build(dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=4)).state_dict()
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in widened.items()}}, tmp_path / 'stem.pth')
    done = call_tool(CONVERT, tmp_path / 'stem.pth', tmp_path / 'out2.pth', '--to', 'mmpretrain')
    assert 'stem_channels=8, base_channels=4, ' in done.out
    assert 'every tensor fits' in done.out


@pytest.mark.parametrize('target', ['mmpretrain', 'timm', 'torchvision'])
def test_a_convnext_of_two_stages(target: str, tmp_path: Path) -> None:
    arch = dict(depths=[1, 2], channels=[8, 16])
    model = build(dict(type='MaskedConvNeXt', arch=arch, stem_patch_size=2, out_indices=(1,)))
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}}, tmp_path / 'a.pth')
    done = call_tool(CONVERT, tmp_path / 'a.pth', tmp_path / 'b.pth', '--to', target)
    if target == 'mmpretrain':
        assert done.code == 0, done.err
        assert 'every tensor fits' in done.out
        return
    assert f'a ConvNeXt of {target} has four stages, this one 2' in done.error()
    assert not (tmp_path / 'b.pth').exists()
    asked = call_tool(CONVERT, tmp_path / 'a.pth', tmp_path / 'b.pth', '--to', target, '--unverified')
    assert asked.code == 0, asked.err
    assert (tmp_path / 'b.pth').exists()


def test_a_folder_that_cannot_be_written_is_named_not_the_file_aside(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='File name too long') as caught, whole_file(tmp_path / ('b' * 250)):
        pass
    assert str(caught.value).endswith(f"'{tmp_path / ('b' * 250)}'")


# ---------------------------------------------------------------- what is written
@pytest.mark.parametrize('method', ['moco', 'swav'])
def test_mmdetections_command_line(files: Path, resnet: State, tmp_path: Path, method: str) -> None:
    done = mmdet(files / f'{method}.pth', tmp_path / 'new' / 'out.pth', '--selfsup', method)
    assert done.code == 0, done.err
    content = load(tmp_path / 'new' / 'out.pth')
    assert set(content) == {'state_dict', 'meta'}
    assert same(content['state_dict'], resnet)
    meta = content['meta']
    assert (meta['format'], meta['target'], meta['prefix']) == (method, 'mmdet', '')
    assert meta['source_sha256'] == hashlib.sha256((files / f'{method}.pth').read_bytes()).hexdigest()
    assert meta['normalisation']['std'][0] == pytest.approx(58.14 if method == 'swav' else 58.395)
    assert f'{len(resnet):4d} tensors kept' in done.out
    assert f"init_cfg=dict(type='Pretrained', checkpoint='{tmp_path / 'new' / 'out.pth'}')" in done.out
    assert 'SyncBN' in done.out


def test_the_head_on_request(files: Path, resnet: State, tmp_path: Path) -> None:
    done = mmdet(files / 'moco.pth', tmp_path / 'out.pth', '--selfsup', 'moco', '--keep-head')
    assert done.code == 0, done.err
    names = set(load(tmp_path / 'out.pth')['state_dict'])
    assert names - set(resnet) == {'fc.0.weight', 'fc.0.bias', 'fc.2.weight', 'fc.2.bias'}


def test_report_and_dry_run(files: Path, resnet: State, tmp_path: Path) -> None:
    report = tmp_path / 'report.json'
    out = tmp_path / 'out.pth'
    options = ['--to', 'torchvision', '--dry-run', '--report', report]
    done = call_tool(CONVERT, files / 'swav.pth', out, *options)
    assert done.code == 0, done.err
    assert 'nothing written' in done.out
    assert not out.exists()
    told = json.loads(report.read_text())
    assert told['kept'] == [[f'module.{name}', name, 'identity'] for name in resnet]
    assert told['dropped'] == [
        *(f'module.projection_head.{i}.weight' for i in (0, 1, 3)),
        'module.prototypes.weight',
    ]
    assert told['destination'] is None
    for name, words in (
        (report, 'exists'),
        (tmp_path, 'is a folder'),
        (files / 'swav.pth', 'is the checkpoint'),
        (out, 'is the checkpoint'),
    ):
        message = call_tool(CONVERT, files / 'swav.pth', out, '--to', 'torchvision', '--report', name).error()
        assert words in message
        assert not out.exists()
    assert json.loads(report.read_text()) == told


def test_report_of_what_does_not_fit(files: Path, tmp_path: Path) -> None:
    state = load(files / 'swav.pth')
    del state['module.layer2.0.conv1.weight']
    torch.save(state, tmp_path / 'in.pth')
    options = ['--to', 'mmpretrain', '--report', tmp_path / 'report.json']
    message = call_tool(CONVERT, tmp_path / 'in.pth', tmp_path / 'out.pth', *options).error()
    assert 'mmpretrain.ResNet has 1 tensors that the file lacks (layer2.0.conv1.weight)' in message
    assert json.loads((tmp_path / 'report.json').read_text())['fit']['missing'] == ['layer2.0.conv1.weight']
    assert not (tmp_path / 'out.pth').exists()


def test_a_part_of_a_larger_storage_is_written_alone(tmp_path: Path) -> None:
    state = build(vit_config(width=16)).state_dict()
    large = torch.randn(1_000_000)
    state['cls_token'] = large[:16].view(1, 1, 16)
    state['ln1.bias'] = state['ln1.weight']
    torch.save({'state_dict': state}, tmp_path / 'in.pth')
    for name in ('out.pth', 'out.safetensors'):
        assert call_tool(CONVERT, tmp_path / 'in.pth', tmp_path / name, '--to', 'timm').code == 0
        assert (tmp_path / name).stat().st_size < 200_000
    assert torch.equal(load(tmp_path / 'out.pth')['state_dict']['cls_token'], state['cls_token'])


def test_the_result_is_loaded_into_its_target(files: Path, tmp_path: Path) -> None:
    done = call_tool(CONVERT, files / 'own.pth', tmp_path / 'out.pth', '--to', 'hf')
    assert done.code == 0, done.err
    assert 'loaded into transformers.ViTModel: every tensor fits' in done.out
    assert '  18 by split_qkv' in done.out
    assert 'momentum_encoder (' in done.out


def test_prefix_norm_and_size(files: Path, tmp_path: Path) -> None:
    options = ['--to', 'mmdet', '--prefix', 'backbone', '--keep-norm', '--img-size', '24']
    done = call_tool(CONVERT, files / 'own.pth', tmp_path / 'out.pth', *options)
    assert done.code == 0, done.err
    state = load(tmp_path / 'out.pth')['state_dict']
    assert state['backbone.pos_embed'].shape == (1, 37, 16)
    assert 'backbone.ln1.weight' in state
    assert "prefix='backbone.'" in done.out


def test_safetensors_out_and_in(files: Path, tmp_path: Path) -> None:
    done = call_tool(CONVERT, files / 'own.pth', tmp_path / 'out.safetensors', '--to', 'timm')
    assert done.code == 0, done.err
    with safe_open(tmp_path / 'out.safetensors', 'pt') as file:
        meta = json.loads(file.metadata()['meta'])
    assert meta['target'] == 'timm'
    back = call_tool(CONVERT, tmp_path / 'out.safetensors', tmp_path / 'back.pth', '--to', 'mmpretrain')
    assert back.code == 0, back.err
    assert load(tmp_path / 'back.pth')['meta']['encoder'] == meta['encoder']
    own = load(files / 'own.pth')['state_dict']
    wanted = {n.removeprefix('backbone.'): v for n, v in own.items() if n.startswith('backbone.')}
    assert same(load(tmp_path / 'back.pth')['state_dict'], wanted)
    assert set(load_file(tmp_path / 'out.safetensors')) >= {'cls_token', 'blocks.0.norm1.weight'}


@pytest.mark.parametrize('ending', ['.pth', '.pth.tar'])
def test_name_with_hash(files: Path, tmp_path: Path, ending: str) -> None:
    arguments = [files / 'own.pth', tmp_path / f'vit-1.5{ending}', '--to', 'timm', '--hash-name']
    assert call_tool(CONVERT, *arguments).code == 0
    (path,) = tmp_path.iterdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'vit-1.5-{digest[:8]}{ending}'
    assert 'exists already' in call_tool(CONVERT, *arguments).error()
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- what is refused
def test_another_method_than_said(files: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out.pth'
    assert 'format swav; use swav or auto' in mmdet(files / 'swav.pth', out, '--selfsup', 'moco').error(2)
    assert mmdet(files / 'swav.pth', out, '--selfsup', 'simsiam').code == 2
    assert mmdet(files / 'swav.pth', out).code == 2
    assert not out.exists()


def test_a_backbone_that_was_extracted_before(files: Path, resnet: State, tmp_path: Path) -> None:
    torch.save({'state_dict': resnet}, tmp_path / 'bare.pth')
    arguments = [tmp_path / 'bare.pth', tmp_path / 'out.pth', '--selfsup', 'moco']
    assert 'holds a bare backbone already' in mmdet(*arguments).error(2)
    assert not (tmp_path / 'out.pth').exists()
    done = mmdet(*arguments, '--allow-converted')
    assert done.code == 0, done.err
    assert same(load(tmp_path / 'out.pth')['state_dict'], resnet)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch attacked',)


def hostile(files: Path, folder: Path) -> dict[str, Path]:
    """Files that cannot be converted, by what is wrong with them."""
    whole = (files / 'swav.pth').read_bytes()
    (folder / 'empty.pth').write_bytes(b'')
    (folder / 'truncated.pth').write_bytes(whole[: len(whole) // 2])
    (folder / 'text.pth').write_text('<html>404</html>')
    (folder / 'truncated.safetensors').write_bytes(b'\x00\x01')
    torch.save({'state_dict': {'a': torch.zeros(1)}, 'x': Attack()}, folder / 'code.pth')
    torch.save({'state_dict': {'features.0.weight': torch.zeros(1)}}, folder / 'other.pth')
    torch.save({'state_dict': {}}, folder / 'nothing.pth')
    torch.save([1, 2], folder / 'list.pth')
    state = load(files / 'swav.pth')
    del state['module.layer2.0.conv1.weight']
    torch.save(state, folder / 'incomplete.pth')
    save_file({'trunk.0.weight': torch.zeros(1)}, folder / 'stranger.safetensors')
    return {path.name: path for path in folder.iterdir()} | {'missing.pth': folder / 'missing.pth'}


WORDS = {
    'empty.pth': 'damaged',
    'truncated.pth': 'damaged',
    'text.pth': 'damaged',
    'truncated.safetensors': 'damaged',
    'code.pth': 'system',
    'other.pth': 'features.0.weight',
    'nothing.pth': 'no tensors at all',
    'list.pth': 'expected a dict',
    'incomplete.pth': 'layer2.0.conv1.weight',
    'stranger.safetensors': 'trunk.0.weight',
    'missing.pth': 'does not exist',
}


@pytest.mark.parametrize('name', WORDS)
def test_hostile_and_broken_files(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / 'in').mkdir()
    (tmp_path / 'out').mkdir()
    monkeypatch.chdir(tmp_path)
    source = hostile(files, tmp_path / 'in')[name]
    message = call_tool(CONVERT, source, tmp_path / 'out' / 'out.pth', '--to', 'mmpretrain').error()
    assert WORDS[name] in message
    assert not list((tmp_path / 'out').iterdir())
    assert not (tmp_path / 'attacked').exists()


def test_destinations_that_must_not_be_written(files: Path, tmp_path: Path) -> None:
    there = tmp_path / 'there.pth'
    there.write_text('mine')
    (tmp_path / 'link.pth').symlink_to(there)
    (tmp_path / 'dangling.pth').symlink_to(tmp_path / 'nowhere.pth')
    (tmp_path / 'folder.pth').mkdir()
    own = tmp_path / 'own.pth'
    own.write_bytes((files / 'own.pth').read_bytes())
    for name, words in (
        ('there.pth', 'exists; choose another name'),
        ('link.pth', 'is a symbolic link'),
        ('dangling.pth', 'is a symbolic link'),
        ('there.pth/out.pth', 'a part of its path is a file'),
        ('folder.pth', 'is a folder'),
        ('own.pth', 'is the source file'),
        ('no_suffix', 'has none of the suffixes'),
    ):
        options = ['--overwrite'] if name in ('link.pth', 'own.pth', 'folder.pth') else []
        assert words in call_tool(CONVERT, own, tmp_path / name, '--to', 'timm', *options).error()
    assert there.read_text() == 'mine'
    assert own.read_bytes() == (files / 'own.pth').read_bytes()
    assert not (tmp_path / 'nowhere.pth').exists()
    done = call_tool(CONVERT, own, there, '--to', 'timm', '--overwrite')
    assert done.code == 0, done.err
    assert 'blocks.0.attn.qkv.weight' in load(there)['state_dict']


@pytest.mark.parametrize('overwrite', [True, False])
def test_full_disk(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / 'out.pth'
    if overwrite:
        out.write_text('mine')
    monkeypatch.setattr(os, 'fsync', no_space)
    options = ['--overwrite'] if overwrite else []
    assert 'disk is full' in call_tool(CONVERT, files / 'own.pth', out, '--to', 'timm', *options).error()
    assert [path.name for path in tmp_path.iterdir()] == (['out.pth'] if overwrite else [])
    assert not overwrite or out.read_text() == 'mine'


def test_a_second_writer(files: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out.pth'
    arguments = [files / 'own.pth', out, '--to', 'timm', '--no-verify']
    both = [start_tool(CONVERT, *arguments) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 1], errors
    assert sum('exists; choose another name' in each for each in errors) == 1
    assert 'blocks.0.attn.qkv.weight' in load(out)['state_dict']
    assert list(tmp_path.iterdir()) == [out]


def test_words_for_wrong_options(files: Path, tmp_path: Path) -> None:
    own, out = files / 'own.pth', tmp_path / 'out.pth'
    assert '--img-size takes H or HxW' in call_tool(CONVERT, own, out, '--to', 'timm', '--img-size', '0').error()
    assert 'cannot read .safetensors' in mmdet(own, tmp_path / 'o.safetensors', '--selfsup', 'auto').error()
    assert '--img-size takes H or HxW' in call_tool(CONVERT, own, out, '--to', 'timm', '--img-size', 'big').error()
    assert 'no student encoder' in call_tool(CONVERT, own, out, '--to', 'timm', '--branch', 'student').error()
    assert 'without prefix' in call_tool(CONVERT, own, out, '--to', 'timm', '--prefix', 'backbone').error()
    assert 'targets that support it' in call_tool(CONVERT, own, out, '--to', 'torchvision').error()
    assert call_tool(CONVERT, own, out, '--to', 'keras').code == 2
    assert call_tool(CONVERT, own, out, '--to', 'timm', '--from', 'simsiam').code == 2


# ---------------------------------------------------------------- publishing
def test_published_weights(files: Path, tmp_path: Path) -> None:
    own = load(files / 'own.pth')
    noted = {'epoch': 3, 'cfg': 'model = dict()', 'dataset_meta': {'classes': ('a',)}}
    torch.save({**own, 'meta': noted, 'optimizer': {'state': {}}, 'message_hub': {}}, tmp_path / 'run.pth')
    done = call_tool('model_converters/publish_model', tmp_path / 'run.pth', tmp_path / 'vit.pth')
    assert done.code == 0, done.err
    (path,) = set(tmp_path.iterdir()) - {tmp_path / 'run.pth'}
    assert path.name == f'vit-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'
    content = load(path)
    assert set(content) == {'state_dict', 'meta'}
    kept = {n: v for n, v in own['state_dict'].items() if not n.startswith('momentum_encoder.')}
    assert same(content['state_dict'], kept)
    assert (content['meta']['epoch'], content['meta']['cfg']) == (3, 'model = dict()')
    followers = {n: v for n, v in own['state_dict'].items() if n.startswith('momentum_encoder.')}
    torch.save({'state_dict': followers}, tmp_path / 'followers.pth')
    alone = call_tool('model_converters/publish_model', tmp_path / 'followers.pth', tmp_path / 'x.pth').error()
    assert 'holds only' in alone
    every = call_tool('model_converters/publish_model', tmp_path / 'run.pth', tmp_path / 'all.pth', '--keep-followers')
    assert f'{len(own["state_dict"])} tensors kept' in every.out


@pytest.mark.parametrize('change', ['missing', 'of another shape'])
def test_an_encoder_that_is_not_whole_is_not_published(change: str, files: Path, tmp_path: Path) -> None:
    state, name = dict(load(files / 'own.pth')['state_dict']), 'backbone.layers.0.attn.qkv.weight'
    if change == 'missing':
        del state[name]
    else:
        state[name] = torch.tensor(1.0)
    torch.save({'state_dict': state}, tmp_path / 'run.pth')
    options = [tmp_path / 'run.pth', tmp_path / 'vit.pth']
    message = call_tool('model_converters/publish_model', *options).error()
    assert 'holds no whole encoder' in message
    assert 'layers.0.attn.qkv.weight' in message
    assert list(tmp_path.iterdir()) == [tmp_path / 'run.pth']
    assert call_tool('model_converters/publish_model', *options, '--unverified').code == 0


def test_nothing_to_publish(tmp_path: Path) -> None:
    torch.save({'epoch': 1}, tmp_path / 'run.pth')
    message = call_tool('model_converters/publish_model', tmp_path / 'run.pth', tmp_path / 'vit.pth').error()
    assert 'holds no weights' in message
    assert list(tmp_path.iterdir()) == [tmp_path / 'run.pth']
