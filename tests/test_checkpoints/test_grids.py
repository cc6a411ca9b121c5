"""Position tables for one grid of patches in a model of another: the grids decide, not the number of patches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import plain_vit
import pytest
import torch
from helpers import build

from mmselfsup_graft.checkpoints import convert, graft_weights, parse_graft, read_checkpoint, resize_relative_table
from mmselfsup_graft.checkpoints.pos_embed import resize_position_table
from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.evaluation import load_backbone
from mmselfsup_graft.zoo.index import get_model

Grid = tuple[int, int]
HEAD = {
    'type': 'mmpretrain.LinearClsHead',
    'num_classes': 2,
    'in_channels': 64,
    'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
}
# as many patches: 16 = 4 x 4 = 2 x 8 = 8 x 2, 36 = 6 x 6 = 4 x 9 = 9 x 4
SAME_COUNT: list[tuple[Grid, Grid]] = [
    ((4, 4), (2, 8)),
    ((8, 2), (2, 8)),
    ((6, 6), (4, 9)),
    ((9, 4), (4, 9)),
    ((2, 8), (4, 4)),
]


def by_graft(path: Path, grid: Grid, known: Grid | None) -> torch.Tensor:
    vit = build(plain_vit.config(grid))
    entry = {'checkpoint': str(path), 'grid': known}
    return graft_weights(parse_graft([entry]), vit.state_dict(), vit.depth, grid)[0]['pos_embed']


def by_model(path: Path, grid: Grid, known: Grid | None) -> torch.Tensor:
    mocov3 = dict(type='GraftedClassifier', backbone=plain_vit.config(grid), head=HEAD)
    model = build({**mocov3, 'graft': [{'checkpoint': str(path), 'grid': known}]})
    model.init_weights()
    return model.backbone.pos_embed


def by_scoring(path: Path, grid: Grid, known: Grid | None) -> torch.Tensor:
    return load_backbone(plain_vit.config(grid), {'checkpoint': str(path), 'grid': known}).pos_embed


def by_conversion(path: Path, grid: Grid, known: Grid | None) -> torch.Tensor:
    size = (4 * grid[0], 4 * grid[1])
    return convert(read_checkpoint(path), 'file', 'mmpretrain', img_size=size, grid=known).state['pos_embed']


def by_detector(path: Path, grid: Grid, known: Grid | None) -> torch.Tensor:
    """The runner's way: a file that does not tell its grid is converted first."""
    if known is not None:
        done = convert(read_checkpoint(path), 'file', 'mmdet', grid=known)
        path = path.with_name('converted.pth')
        torch.save({'state_dict': done.state, 'meta': {'encoder': done.traits.as_meta()}}, path)
    config = plain_vit.config(grid, final_norm=False, out_type='featmap')
    module = build({**config, 'type': 'mmpretrain.VisionTransformer'})
    load_pretrained(PretrainedPart('backbone', module, str(path)))
    return module.pos_embed


READERS: list[Callable[[Path, Grid, Grid | None], torch.Tensor]] = [
    by_graft,
    by_model,
    by_scoring,
    by_conversion,
    by_detector,
]


def resized(table: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """Bicubic, row by row of the map, as torch does it."""
    maps = table[:, 1:].unflatten(1, source).permute(0, 3, 1, 2)
    maps = torch.nn.functional.interpolate(maps, size=target, mode='bicubic', align_corners=False)
    return torch.cat([table[:, :1], maps.flatten(2).transpose(1, 2)], 1)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize(('source', 'target'), SAME_COUNT)
def test_as_many_patches_in_another_grid(reader: Any, source: Grid, target: Grid, tmp_path: Path) -> None:
    state = plain_vit.make(source)
    torch.save(state, tmp_path / 'a.pth')
    expected = resized(state['pos_embed'], source, target)
    assert not torch.allclose(expected, state['pos_embed'])
    torch.testing.assert_close(reader(tmp_path / 'a.pth', target, source), expected)
    if target[0] != target[1]:  # nothing in a bare file tells which of the two
        with pytest.raises(CheckpointError, match='--source-grid'):
            reader(tmp_path / 'a.pth', target, None)
    torch.testing.assert_close(reader(tmp_path / 'a.pth', source, source), state['pos_embed'], rtol=0, atol=0)


@pytest.mark.parametrize('reader', READERS)
def test_the_file_tells_its_grid(reader: Any, tmp_path: Path) -> None:
    state = plain_vit.make((2, 8))
    torch.save({'state_dict': state, 'meta': {'encoder': {'grid': [2, 8], 'num_heads': 4}}}, tmp_path / 'a.pth')
    torch.testing.assert_close(reader(tmp_path / 'a.pth', (4, 4), None), resized(state['pos_embed'], (2, 8), (4, 4)))
    assert torch.equal(reader(tmp_path / 'a.pth', (2, 8), None), state['pos_embed'])
    text = "model = dict(backbone=dict(type='SelfSupViT', arch='base', img_size=(8, 32), patch_size=4))"
    torch.save({'state_dict': state, 'meta': {'cfg': text}}, tmp_path / 'b.pth')
    if reader not in (by_graft, by_conversion):  # its config says 12 heads, which the model has not
        with pytest.raises(CheckpointError, match=r'12 attention heads'):
            reader(tmp_path / 'b.pth', (4, 4), None)
    torch.save({'state_dict': state, 'meta': {'cfg': text.replace("'base'", 'dict(num_heads=4)')}}, tmp_path / 'c.pth')
    torch.testing.assert_close(reader(tmp_path / 'c.pth', (4, 4), None), resized(state['pos_embed'], (2, 8), (4, 4)))


@pytest.mark.parametrize('reader', READERS)
def test_a_square_table_is_taken_for_a_square_and_resized_to_any_other_number(reader: Any, tmp_path: Path) -> None:
    state = plain_vit.make((4, 4))
    torch.save(state, tmp_path / 'a.pth')
    assert torch.equal(reader(tmp_path / 'a.pth', (4, 4), None), state['pos_embed'])
    for target in ((6, 6), (3, 5)):
        torch.testing.assert_close(
            reader(tmp_path / 'a.pth', target, None), resized(state['pos_embed'], (4, 4), target)
        )


@pytest.mark.parametrize('reader', READERS)
def test_a_grid_that_the_table_is_not_for(reader: Any, tmp_path: Path) -> None:
    torch.save(plain_vit.make((4, 4)), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='3 x 5'):
        reader(tmp_path / 'a.pth', (4, 4), (3, 5))
    torch.save(plain_vit.make((3, 5)), tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match='--source-grid'):
        reader(tmp_path / 'b.pth', (3, 4), None)


def test_get_model_takes_a_grid(tmp_path: Path) -> None:
    name = 'mae_vit-micro-p4_1xb64-coslr-210e_digits-16px'
    state = plain_vit.make((2, 8))
    torch.save(state, tmp_path / 'a.pth')
    model: Any = get_model(name, {'checkpoint': str(tmp_path / 'a.pth'), 'grid': (2, 8)})
    torch.testing.assert_close(model.backbone.pos_embed.data, resized(state['pos_embed'], (2, 8), (4, 4)))


# ---------------------------------------------------------------- relative positions
def relative(grid: Grid, heads: int = 2, extra: int = 3) -> torch.Tensor:
    return torch.randn((2 * grid[0] - 1) * (2 * grid[1] - 1) + extra, heads, generator=torch.Generator().manual_seed(1))


def test_relative_tables_of_as_many_offsets() -> None:
    """(2 H - 1) (2 W - 1) offsets of 2 x 8 and 8 x 2, 3 x 8 and 8 x 3 are as many."""
    table = relative((3, 8))
    with pytest.raises(CheckpointError, match='--source-grid'):
        resize_relative_table(table, (8, 3), 3)
    moved = resize_relative_table(table, (8, 3), 3, (3, 8))
    assert moved.shape == table.shape
    assert not torch.allclose(moved, table)
    assert torch.equal(resize_relative_table(table, (3, 8), 3, (3, 8)), table)
    square = relative((5, 5))  # 81 = 9 x 9 = 3 x 27
    with pytest.raises(CheckpointError, match='may be for a square grid'):
        resize_relative_table(square, (2, 14), 3)
    assert resize_relative_table(square, (2, 14), 3, (5, 5)).shape == square.shape


def test_axes_of_relative_tables_are_resized_apart() -> None:
    """Where only the columns change, every row is a curve of its own."""
    table = relative((3, 4), heads=1, extra=0)
    wider = resize_relative_table(table, (3, 6), 0, (3, 4)).reshape(5, 11)
    square = resize_relative_table(relative((4, 4), 1, 0), (6, 6), 0)
    assert torch.equal(resize_relative_table(relative((4, 4), 1, 0), (6, 6), 0, (4, 4)), square)
    flat = resize_relative_table(torch.ones(5 * 7, 1), (3, 6), 0, (3, 4))
    torch.testing.assert_close(flat, torch.ones(55, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(wider[:, 5], table.reshape(5, 7)[:, 3])  # offset 0


def test_tables_of_another_count_need_a_grid() -> None:
    with pytest.raises(CheckpointError, match='--source-grid'):
        resize_position_table(torch.zeros(1, 1 + 12, 4), (4, 4))
    assert resize_position_table(torch.zeros(1, 1 + 12, 4), (4, 4), 1, (3, 4)).shape == (1, 17, 4)


@pytest.mark.parametrize('kind', ['relative', 'no class token'])
def test_a_grid_that_is_told_but_that_no_table_is_for(kind: str) -> None:
    arch = {'embed_dims': 8, 'num_layers': 1, 'num_heads': 2, 'feedforward_channels': 16}
    others = {
        'relative': dict(type='mmpretrain.BEiTViT', use_rel_pos_bias=True, out_type='raw'),
        'no class token': dict(type='mmpretrain.VisionTransformer', with_cls_token=False, out_type='raw'),
    }
    state = build(dict(arch=arch, img_size=(12, 8), patch_size=4, **others[kind])).state_dict()

    def size(told: Grid | None, given: Grid | None = None) -> Grid:
        content = {'state_dict': state, 'meta': {'encoder': {'grid': told and list(told)}}}
        return convert(content, 'file', 'mmpretrain', grid=given).architecture.img_size

    assert size((3, 2)) == size(None, (3, 2)) == (12, 8)
    assert size((10**6, 10**6)) == size(None), 'no model of that size is built'
    with pytest.raises(CheckpointError, match='which is not a grid of 5 x 5 patches'):
        size((3, 2), (5, 5))


@pytest.mark.parametrize('shape', [(4,), (1, 2, 8)])
def test_registers_that_do_not_fit_the_position_table(shape: tuple[int, ...]) -> None:
    vit = dict(type='SelfSupViT', num_registers=2, arch={**plain_vit.config((4, 4))['arch']}, img_size=16, patch_size=4)
    state = convert(build(vit).state_dict(), 'file', 'timm').state
    rows = torch.zeros(1, 19, state['pos_embed'].shape[2])  # with rows for the class token and the registers
    with pytest.raises(CheckpointError, match='register'):
        convert({**state, 'pos_embed': rows, 'reg_token': torch.zeros(shape)}, 'file', 'mmpretrain', grid=(4, 4))
