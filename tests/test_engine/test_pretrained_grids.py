"""Position tables of detectors and segmentors: by the grid, also where the names and shapes are those of the model."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import build
from torch import nn

from mmselfsup_graft.checkpoints import GraftSource, convert, depth_of, graft_weights, patch_grid
from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained
from mmselfsup_graft.errors import CheckpointError

Grid = tuple[int, int]
PAIRS: list[tuple[Grid, Grid]] = [
    ((8, 8), (4, 16)), ((4, 16), (8, 8)), ((9, 16), (12, 12)), ((5, 8), (8, 5)), ((4, 16), (4, 16))
]  # fmt: skip
ARCH = {'embed_dims': 32, 'num_layers': 1, 'num_heads': 2, 'feedforward_channels': 32}
SWIN = {'embed_dims': 16, 'depths': [1, 1], 'num_heads': [1, 2]}
KINDS: dict[str, dict[str, Any]] = {
    'class token': {'type': 'mmpretrain.VisionTransformer', 'arch': ARCH},
    'patches alone': {'type': 'mmpretrain.VisionTransformer', 'arch': ARCH, 'with_cls_token': False, 'out_type': 'raw'},
    'no row for the class token': {'type': 'mmpretrain.DeiT3', 'arch': ARCH},
    'swin': {
        'type': 'mmpretrain.SwinTransformer', 'arch': SWIN, 'window_size': 2, 'use_abs_pos_embed': True,
        'out_indices': (1,),
    },
}  # fmt: skip


def model_of(kind: str, grid: Grid, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build({**KINDS[kind], 'img_size': (4 * grid[0], 4 * grid[1]), 'patch_size': 4})
    nn.init.normal_(table_of(model))
    return model


def table_of(model: Any) -> torch.Tensor:
    return model.absolute_pos_embed if hasattr(model, 'absolute_pos_embed') else model.pos_embed


def resized(table: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """Plain bicubic resize of every channel's map."""
    extra = table.shape[1] - source[0] * source[1]
    maps = table[0, extra:].T.reshape(1, -1, *source)
    new = F.interpolate(maps, size=target, mode='bicubic', align_corners=False)[0].flatten(1).T
    return torch.cat([table[0, :extra], new])[None]


def write(model: nn.Module, path: Path, grid: Grid | None = None) -> str:
    meta = {'meta': {'encoder': {'grid': list(grid)}}} if grid else {}
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}, **meta}, path)
    return str(path)


@pytest.mark.parametrize(('source', 'target'), PAIRS)
@pytest.mark.parametrize('kind', KINDS)
def test_as_many_patches_in_another_grid(kind: str, source: Grid, target: Grid, tmp_path: Path) -> None:
    given, part = model_of(kind, source, 1), model_of(kind, target, 2)
    load_pretrained(PretrainedPart('backbone', part, write(given, tmp_path / 'told.pth', source)))
    torch.testing.assert_close(table_of(part), resized(table_of(given), source, target), rtol=0, atol=1e-5)
    if target[0] != target[1]:
        path = write(given, tmp_path / 'silent.pth')
        with pytest.raises(CheckpointError, match='give the grid: --source-grid'):
            load_pretrained(PretrainedPart('backbone', model_of(kind, target, 2), path))


@pytest.mark.parametrize(('source', 'target'), [*PAIRS, ((8, 8), (6, 10)), ((4, 6), (8, 8))])
def test_swin_by_graft_and_conversion(source: Grid, target: Grid, tmp_path: Path) -> None:
    given, model = model_of('swin', source, 1), model_of('swin', target, 2)
    expected = resized(table_of(given), source, target)
    path = write(given, tmp_path / 'in.pth')
    graft = [GraftSource(path, grid=source)]
    weights, _ = graft_weights(graft, model.state_dict(), depth_of(model), patch_grid(model))
    torch.testing.assert_close(weights['absolute_pos_embed'], expected, rtol=0, atol=1e-5)
    done = convert(torch.load(path), 'file', 'mmpretrain', img_size=(4 * target[0], 4 * target[1]), grid=source)
    torch.testing.assert_close(done.state['absolute_pos_embed'], expected, rtol=0, atol=1e-5)
    load_pretrained(PretrainedPart('backbone', model, write(given, tmp_path / 'told.pth', source)))
    torch.testing.assert_close(table_of(model), expected, rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match='is not a grid of 3 x 7'):
        convert(torch.load(path), 'file', 'mmpretrain', grid=(3, 7))


def test_a_class_that_does_not_tell_its_grid(tmp_path: Path) -> None:
    """Mmdet's Swin keeps nothing of ``pretrain_img_size``."""
    pytest.importorskip('mmdet.models')
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        'embed_dims': 16,
        'depths': (1, 1),
        'num_heads': (1, 2),
        'window_size': 2,
        'strides': (4, 2),
    }
    sizes |= {'pretrain_img_size': (16, 64), 'use_abs_pos_embed': True, 'out_indices': (1,)}
    part = build({'type': 'mmdet.SwinTransformer', **sizes})
    path = write(model_of('swin', (8, 8), 1), tmp_path / 'in.pth', (8, 8))
    with pytest.raises(CheckpointError, match='class of the same name in mmpretrain'):
        load_pretrained(PretrainedPart('backbone', part, path))
    with pytest.raises(CheckpointError, match=r'use mmpretrain\.SwinTransformer'):
        graft_weights([GraftSource(path)], part.state_dict(), depth_of(part), patch_grid(part))


def test_the_norm_of_pooled_patches_is_loaded(tmp_path: Path) -> None:
    config = {**KINDS['class token'], 'out_type': 'avg_featmap', 'final_norm': False, 'img_size': 16, 'patch_size': 4}
    given, part = build(config), build(config)
    nn.init.normal_(given.ln2.weight)
    torch.save({'state_dict': {f'model.backbone.{n}': v for n, v in given.state_dict().items()}}, tmp_path / 'in.pth')
    load_pretrained(PretrainedPart('backbone', part, str(tmp_path / 'in.pth')))
    torch.testing.assert_close(part.ln2.weight, given.ln2.weight, rtol=0, atol=0)
