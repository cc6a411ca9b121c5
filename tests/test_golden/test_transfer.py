"""Conversion of checkpoints: names, dropped tensors and computed values against ``golden/transfer``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close, build, golden_folder, tensor

from mmselfsup_graft.checkpoints import (
    Conversion,
    convert,
    resize_position_table,
    resize_relative_table,
)

FOLDER = golden_folder('transfer')

# classes that the golden files name -> our targets
OURS = {
    'mmpretrain.': ('mmpretrain',),
    'mmdet.': ('mmdet',),
    'mmseg.VisionTransformer': ('mmseg-vit',),
    'mmseg.MAE': ('mmseg-mae',),
    'timm': ('timm',),
    'transformers': ('hf',),
}
# what users call the method, for files whose format has another name
ASKED = {'a2mim': 'a2mim', 'ibot': 'ibot', 'mae': 'mae', 'moco_v1': 'moco', 'moco_v2': 'moco', 'moco_v3': 'mocov3'}


def cases() -> Iterator[Any]:
    for path in sorted(FOLDER.glob('*.json')):
        for number, target in enumerate(json.loads(path.read_text())['targets']):
            yield pytest.param(path, number, id=f'{path.stem}-{number}-{target["target"].split()[0]}')


def short(shape: list[int], key: str) -> list[int]:
    """Small enough to be quick, and still divisible where a conversion cuts or multiplies."""
    if 'cls_token' in key:
        return [min(size, 4) if size > 1 else 1 for size in shape]
    return [6 if '.qkv.' in key and axis == 0 else min(size, 2) for axis, size in enumerate(shape)]


def content_of(case: dict[str, Any]) -> dict[str, Any]:
    """A file as described: the right names, every value its own number."""
    state = {}
    for number, (key, shape, dtype) in enumerate(case['source']):
        state[key] = torch.full(short(shape, key), number).to(getattr(torch, dtype))
        if '.qkv.' in key:
            state[key] = state[key] + torch.arange(6).reshape(-1, *[1] * (len(shape) - 1)) / 10
    wrapper = case['checkpoint']['wrapper']
    siblings = {name: {} for name in case['checkpoint']['siblings'] if name != wrapper}
    return {**siblings, wrapper: state} if wrapper else state


def branch_of(case: dict[str, Any]) -> str | None:
    wrapper = case['checkpoint']['wrapper']
    return wrapper if wrapper in ('student', 'teacher') else None


@pytest.mark.parametrize(('path', 'number'), cases())
def test_names(path: Path, number: int) -> None:
    case = json.loads(path.read_text())
    wanted = case['targets'][number]
    targets = next(ours for start, ours in OURS.items() if wanted['target'].startswith(start))
    method = next((ours for start, ours in ASKED.items() if path.stem.startswith(start)), path.stem.split('_')[0])
    content = content_of(case)
    for target in targets:
        norm = wanted['config'].get('final_norm')
        done = convert(content, 'file', target, wanted=method, branch=branch_of(case), final_norm=norm)
        assert sorted(done.rows) == sorted(map(tuple, wanted['map']))
        assert sorted(done.dropped) == sorted(wanted['dropped'])
        assert [s for s, *_ in case['source'] if s in done.dropped] == list(done.dropped), 'in the order of the file'
        _check_values(done, content.get(case['checkpoint']['wrapper'], content))


def _check_values(done: Conversion, source: dict[str, torch.Tensor]) -> None:
    for entry in done.entries:
        ((name, op),) = entry.origins
        if op == 'identity':
            assert entry.tensor is source[name], 'tensors that are only renamed are not touched'
        elif op.startswith('split_qkv:'):
            assert torch.equal(entry.tensor, source[name].chunk(3)[int(op[-1])])


@pytest.mark.parametrize('path', sorted(FOLDER.glob('moco_v[12]*.json')), ids=lambda path: path.stem)
def test_with_the_head_it_is_what_mmdetection_makes(path: Path) -> None:
    case = json.loads(path.read_text())
    official = next(o for o in case['official'] if o['args'].endswith('--selfsup moco'))
    done = convert(content_of(case), 'file', 'mmdet', wanted='moco', keep_head=True)
    assert [[source, name] for source, name, _ in done.rows] == official['map'], 'also in this order'
    assert list(done.dropped) == official['dropped']


def arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / 'numeric' / name) as file:
        return {key: tensor(file[key], torch.float32) for key in file.files}


def backbone_config(state: dict[str, torch.Tensor], size: int, heads: int) -> dict[str, Any]:
    weight = state['patch_embed.projection.weight']
    arch = {
        'embed_dims': weight.shape[0],
        'num_layers': 1 + max(int(m[1]) for name in state if (m := re.match(r'layers\.(\d+)\.', name))),
        'num_heads': heads,
        'feedforward_channels': state['layers.0.ffn.layers.0.0.weight'].shape[0],
    }
    common = {'img_size': size, 'patch_size': weight.shape[-1], 'out_type': 'raw', 'final_norm': 'ln1.weight' in state}
    return {'type': 'mmpretrain.VisionTransformer', 'arch': arch, **common}


def run_blocks(state: dict[str, torch.Tensor], x: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """All tokens after each block, the last one after the final norm where there is one."""
    config = backbone_config(state, x.shape[-1], heads)
    config['out_indices'] = list(range(config['arch']['num_layers']))
    model = build(config)
    model.load_state_dict(state, strict=True)
    model.eval()
    with torch.no_grad():
        return list(model(x))


@pytest.mark.parametrize('name', ['vit_tiny_timm_names.npz', 'tec_tiny.npz'])
def test_features(name: str) -> None:
    data = arrays(name)
    content = {'model': {key[3:]: value for key, value in data.items() if key.startswith('sd/')}}
    state = convert(content, name, 'mmpretrain', final_norm=False).state
    width = state['cls_token'].shape[-1]
    candidates = [heads for heads in (4, 2, 8, 1, 16) if width % heads == 0]  # no shape tells their number
    errors = {}
    for heads in candidates:
        outputs = torch.stack(run_blocks(state, data['x'], heads))
        errors[heads] = (outputs - data['blocks']).abs().max().item()
    assert min(errors.values()) <= 2e-5, errors
    if 'merged_cls_token' in data:
        assert_close(state['cls_token'], data['merged_cls_token'], atol=1e-6)
    if 'tokens_norm' in data:
        heads = min(errors, key=errors.__getitem__)
        full = convert(content, name, 'mmpretrain').state
        assert_close(run_blocks(full, data['x'], heads)[-1], data['tokens_norm'], atol=2e-5)
        size = data['x_64'].shape[-1]
        larger = convert(content, name, 'mmpretrain', img_size=(size, size)).state
        assert_close(larger['pos_embed'], data['pos_embed_64'], atol=1e-5)
        assert_close(run_blocks(larger, data['x_64'], heads)[-1], data['tokens_norm_64'], atol=2e-5)


def test_position_tables() -> None:
    data = arrays('pos_embed_interp.npz')
    (source,) = (value for key, value in data.items() if key.startswith('src_'))
    for key, wanted in data.items():
        match = re.fullmatch(r'dst_(\d+)x(\d+)', key)
        if match:
            assert_close(resize_position_table(source, (int(match[1]), int(match[2]))), wanted, atol=1e-5)


def test_relative_position_tables() -> None:
    data = arrays('rel_pos_interp.npz')
    for key in (key for key in data if key.endswith('_src')):
        kind, _, size = key.removesuffix('_src').split('_')
        extra = 3 if kind == 'vit' else 0
        made = resize_relative_table(data[key], (int(size), int(size)), extra)
        assert_close(made, data[key.replace('_src', '_dst')], atol=1e-5)
