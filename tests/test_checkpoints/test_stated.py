"""What a file states about its encoder beside the tensors: used for the model that is built, compared, or refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build
from torch import nn

from mmselfsup_graft.checkpoints import read_checkpoint, read_encoder, traits_of
from mmselfsup_graft.checkpoints.formats.stated import refuse_variants, suggested_variant
from mmselfsup_graft.checkpoints.formats.traits import Traits, trait_problem
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.evaluation.backbones import load_backbone
from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file
from mmselfsup_graft.libraries.scopes import register_all_modules
from mmselfsup_graft.targets.target_check import build_target_model

ARCH = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 4, 'feedforward_channels': 48}
VIT: dict[str, Any] = {'type': 'SelfSupViT', 'arch': ARCH, 'img_size': 16, 'patch_size': 4}
QUICK = {'layer_cfgs': {'act_cfg': {'type': 'mmpretrain.QuickGELU'}}}


@pytest.fixture(scope='module', autouse=True)
def registered() -> None:
    register_all_modules()


def saved(cfg: dict[str, Any], path: Path) -> nn.Module:
    """A backbone as a run of this toolbox saves it."""
    torch.manual_seed(0)
    model: Any = build(cfg)
    for value in model.parameters():
        value.data.normal_(0, 0.2)
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    torch.save({'state_dict': state, 'meta': {'encoder': traits_of(model).as_meta()}}, path)
    model.eval()
    return model


def hugging_face(folder: Path, **settings: Any) -> nn.Module:
    """A small ViTModel in its own layout: ``model.safetensors`` and ``config.json``."""
    transformers = pytest.importorskip('transformers')
    sizes = {'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 4, 'intermediate_size': 48}
    config = transformers.ViTConfig(**{**sizes, 'image_size': 16, 'patch_size': 4, **settings})
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    for value in model.parameters():
        value.data.normal_(0, 0.2)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize('act', ['gelu', 'quick_gelu', 'gelu_new', 'relu', 'silu'])
@torch.no_grad()
def test_config_beside_a_model_builds_the_same_features(act: str, tmp_path: Path) -> None:
    model, x = hugging_face(tmp_path, hidden_act=act, layer_norm_eps=1e-3), torch.randn(2, 3, 16, 16)
    want = model(x).last_hidden_state
    for target in ('timm', 'hf', 'mmpretrain'):
        pytest.importorskip({'hf': 'transformers'}.get(target, target))
        done = convert_file(tmp_path / 'model.safetensors', tmp_path / f'{target}.pth', ConvertOptions(target))
        built: Any = build_target_model(done.conversion)
        built.load_state_dict(read_checkpoint(tmp_path / f'{target}.pth')['state_dict'], strict=False)
        built.eval()
        got = built.forward_features(x) if target == 'timm' else built(x)
        got = got.last_hidden_state if target == 'hf' else got[-1] if target == 'mmpretrain' else got
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_images_that_are_no_multiple_of_the_patches(tmp_path: Path) -> None:
    model, x = hugging_face(tmp_path, image_size=28, patch_size=8, layer_norm_eps=1e-6), torch.randn(2, 3, 28, 28)
    backbone: Any = load_backbone({**VIT, 'img_size': 24, 'patch_size': 8}, tmp_path / 'model.safetensors')
    want = model(x).last_hidden_state[:, 0]  # the rest of 4 pixels is left out
    torch.testing.assert_close(backbone(x[:, :, :24, :24])[-1], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('side', 'count', 'patch', 'stride', 'fits'),
    [
        *((28, count, 8, 8, count in (3, 4)) for count in range(1, 8)),
        *((224, count, 16, 16, count == 14) for count in range(12, 30)),
        *((16, count, 4, 2, count in (7, 8)) for count in range(1, 10)),
        *((21, count, 8, 4, count in (4, 5, 6)) for count in range(1, 10)),
    ],
)
def test_grids_that_a_stride_can_give(side: int, count: int, patch: int, stride: int, fits: bool) -> None:
    told = Traits(img_size=(side, side), grid=(count, count))
    own = Traits(patch=((patch, patch), (stride, stride)))
    assert (trait_problem(told, own) == '') is fits
    patches = torch.zeros(1, 1, patch, patch)
    images = [torch.zeros(1, 1, side + more, side + more) for more in range(patch)]
    padded = {nn.functional.conv2d(image, patches, stride=stride).shape[-1] for image in images}
    assert count in padded or not fits


def test_a_graft_compares_the_activation_that_the_file_states(tmp_path: Path) -> None:
    hugging_face(tmp_path, hidden_act='quick_gelu')
    with pytest.raises(CheckpointError, match='quick_gelu as activation, expected gelu'):
        load_backbone(VIT, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match='4 attention heads, expected 2'):
        load_backbone({**VIT, 'arch': {**ARCH, 'num_heads': 2}, **QUICK}, tmp_path / 'model.safetensors')
    load_backbone({**VIT, **QUICK}, tmp_path / 'model.safetensors')


def test_normalization_beside_a_model(tmp_path: Path) -> None:
    hugging_face(tmp_path)
    told = {'do_normalize': True, 'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.25, 0.5, 0.5]}
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(told))
    traits = read_encoder(tmp_path / 'model.safetensors').traits
    assert traits.mean == (127.5, 127.5, 127.5)
    assert traits.std == (63.75, 127.5, 127.5)
    assert (traits.num_heads, traits.grid, traits.img_size) == (4, (4, 4), (16, 16))


@pytest.mark.parametrize(
    ('name', 'key', 'value'),
    [
        ('config.json', 'num_attention_heads', 0),
        ('config.json', 'num_attention_heads', '4'),
        ('config.json', 'layer_norm_eps', 2),
        ('preprocessor_config.json', 'image_std', [0.5, 0, 0.5]),
    ],
)
def test_impossible_values_are_named_as_in_their_file(name: str, key: str, value: Any, tmp_path: Path) -> None:
    hugging_face(tmp_path)
    path = tmp_path / name
    told = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**told, key: value}))
    with pytest.raises(CheckpointError) as caught:
        read_encoder(tmp_path / 'model.safetensors')
    assert name in str(caught.value)
    assert key in str(caught.value)
    path.write_text(json.dumps({**told, 'num_attention_heads': [1, 2, 5, 8], 'layer_norm_eps': [1e-6] * 4}))
    traits = read_encoder(tmp_path / 'model.safetensors').traits
    assert name != 'config.json' or (traits.num_heads, traits.norm_eps, traits.grid) == (None, None, (4, 4))


def test_a_broken_config_beside_a_model(tmp_path: Path) -> None:
    hugging_face(tmp_path)
    (tmp_path / 'config.json').write_text('{"hidden_act": ')
    with pytest.raises(CheckpointError, match='is not a JSON file'):
        read_encoder(tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps({'num_attention_heads': 4, 'labels': 'a' * 2**20}))
    with pytest.raises(CheckpointError, match=r'config\.json.*more than 1,048,576 bytes'):
        read_encoder(tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps({'num_attention_heads': 4, 'labels': 'a' * (2**20 - 99)}))
    assert read_encoder(tmp_path / 'model.safetensors').traits.num_heads == 4


@pytest.mark.parametrize('wrapper', ['', 'state_dict', 'model', 'module', 'model_state', 'net', 'weights', 'model_ema'])
def test_files_beside_a_model_whatever_is_above_its_tensors(wrapper: str, tmp_path: Path) -> None:
    hugging_face(tmp_path)
    state = read_checkpoint(tmp_path / 'model.safetensors')['state_dict']
    (tmp_path / 'model.safetensors').unlink()
    torch.save({wrapper: state} if wrapper else state, tmp_path / 'pytorch_model.bin')
    encoder = read_encoder(tmp_path / 'pytorch_model.bin')
    assert encoder.traits.num_heads == 4
    bare = state['embeddings.patch_embeddings.projection.weight']
    assert torch.equal(encoder.state['patch_embed.projection.weight'], bare)
    assert not encoder.dropped


@pytest.mark.parametrize(
    'stated',
    [
        {'arch': 'resnetaa50'},
        {'args': {'model': 'resnetblur18'}},
        {'args': {'model': 'resnet18', 'model_kwargs': {'aa_layer': 'avg'}}},
        {'arch': 'vit_small_patch16_rope_ape_224'},
    ],
)
def test_differences_that_no_backbone_has(stated: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / 'in.pth'
    saved({'type': 'SelfSupResNet', 'depth': 18}, path)
    state = {n.removeprefix('backbone.'): v for n, v in read_checkpoint(path)['state_dict'].items()}
    torch.save({'state_dict': state, **stated}, path)
    words = 'rotary' if 'rope' in str(stated) else 'anti-aliased pooling'
    with pytest.raises(CheckpointError, match=words):
        convert_file(path, tmp_path / 'out.pth', ConvertOptions('mmpretrain'))
    with pytest.raises(CheckpointError, match=words):
        load_backbone({'type': 'SelfSupResNet', 'depth': 18}, path)
    torch.save(state, tmp_path / 'resnetaa18.pth')
    assert any('anti-aliased' in note for note in read_encoder(tmp_path / 'resnetaa18.pth').notes)
    torch.save(state, tmp_path / 'plain.pth')
    assert [note for note in read_encoder(tmp_path / 'plain.pth').notes if 'max pooling' in note]


PLAIN = (
    'dinov3_convnext_tiny',
    'convnext_tiny.dinov3_lvd1689m',
    'eva02_enormous_patch14_clip_224',
    'EVA02-E-14-plus',
    'resnet50',
    'vit_small_patch14_dinov2.lvd142m',
    'eva_giant_patch14_224',
    'vit_base_patch16_224',
    'europe_vit',
    'resnet50d.ra2_in1k',
    'vit_petite_16',
    'deit3_base_patch16_224',
)
ROTARY = (
    'vit_small_patch16_dinov3.lvd1689m',
    'vit_7b_patch16_dinov3',
    'dinov3_vits16',
    'dinov3-vitb16-pretrain-lvd1689m',
    'EVA02-B-16',
    'eva02_base_patch14_224',
    'timm/eva02_large_patch14_448.mim_in22k',
    'vit_base_patch16_rope_224',
    'vit_small_patch16_rope',
    'vit_pe_core_base_patch16_224.fb',
    'vit_giant_patch16_lingbot',
)


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        *((name, '') for name in PLAIN),
        *((name, 'rotary positions') for name in ROTARY),
        *((name, 'anti-aliased pooling') for name in ('resnetaa50d.sw_in12k', 'seresnextaa101d_32x8d', 'resnetblur50')),
    ],
)
def test_names_of_architectures(name: str, words: str) -> None:
    assert suggested_variant(f'{name}.pth') == words
    for content in (
        {'arch': name},
        {'args': {'model': name}},
        {'meta': {'files_beside': {'config.json': {'architecture': name}}}},
    ):
        if words:
            with pytest.raises(CheckpointError, match=words):
                refuse_variants(content, 'a')
        else:
            refuse_variants(content, 'a')


@pytest.mark.parametrize(
    ('trained', 'plain', 'told', 'refusing'),
    [
        ({'type': 'SelfSupResNet', 'depth': 50, 'style': 'caffe'}, {'type': 'SelfSupResNet', 'depth': 50}, 'caffe',
         'torchvision'),
        ({**VIT, 'patch_cfg': {'stride': 2}}, VIT, '8 x 8 patches in images of 16 x 16 pixels', 'timm'),
        ({**VIT, **QUICK}, VIT, 'quick_gelu', 'mmseg-vit'),
    ],
)  # fmt: skip
@torch.no_grad()
def test_options_of_a_run(
    trained: dict[str, Any], plain: dict[str, Any], told: str, refusing: str, tmp_path: Path
) -> None:
    model, x = saved(trained, tmp_path / 'in.pth'), torch.randn(2, 3, 16, 16)
    with pytest.raises(CheckpointError, match=told):
        load_backbone(plain, tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match='nothing written'):
        convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', ConvertOptions(refusing))
    torch.testing.assert_close(load_backbone(trained, tmp_path / 'in.pth')(x)[-1], model(x)[-1])
    if 'patch_cfg' in trained:
        return
    text = convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', ConvertOptions('mmpretrain')).text
    found = re.search(r'use: backbone=(dict\(.*\))', text)
    assert found
    config = eval(found[1])
    config.pop('init_cfg')
    built: Any = build({**config, **({'out_type': 'cls_token'} if 'arch' in config else {})})
    built.load_state_dict(read_checkpoint(tmp_path / 'out.pth')['state_dict'])
    built.eval()
    torch.testing.assert_close(built(x)[-1], model(x)[-1])


@pytest.mark.parametrize('stages', [{'strides': (1, 2, 1, 1), 'dilations': (1, 1, 2, 4)}, {'strides': (1, 1, 2, 2)}])
@torch.no_grad()
def test_stages_with_other_strides_or_dilations(stages: dict[str, Any], tmp_path: Path) -> None:
    model, x = saved({'type': 'SelfSupResNet', 'depth': 18, **stages}, tmp_path / 'in.pth'), torch.randn(2, 3, 32, 32)
    for target in ('torchvision', 'timm'):
        pytest.importorskip(target)
        with pytest.raises(CheckpointError, match=r'no ResNet of .* with strides='):
            convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', ConvertOptions(target))
    for target in ('mmpretrain', 'mmdet'):
        done = convert_file(tmp_path / 'in.pth', tmp_path / f'{target}.pth', ConvertOptions(target))
        built: Any = build_target_model(done.conversion)
        built.load_state_dict(read_checkpoint(tmp_path / f'{target}.pth')['state_dict'])
        built.eval()
        torch.testing.assert_close(built(x)[-1], model(x)[-1])
    options = ', '.join(f'{key}={value}' for key, value in stages.items())
    text = f"model = dict(backbone=dict(type='SelfSupResNet', depth=18, {options}))"
    torch.save({**read_checkpoint(tmp_path / 'in.pth'), 'meta': {'cfg': text}}, tmp_path / 'old.pth')
    with pytest.raises(CheckpointError, match='no ResNet of torchvision with strides='):
        convert_file(tmp_path / 'old.pth', tmp_path / 'out.pth', ConvertOptions('torchvision'))
