"""Position tables: closed form, refusal of impossible sizes, resizing."""

import math

import pytest
import torch
from helpers import assert_close
from mmpretrain.models.utils import resize_pos_embed

from mmselfsup_graft.checkpoints import resize_position_table, sincos_table
from mmselfsup_graft.errors import CheckpointError, ConfigError


@pytest.mark.parametrize('layout', ['mae', 'mocov3'])
@pytest.mark.parametrize(('grid', 'width'), [((3, 3), 8), ((2, 5), 12)])
def test_closed_form(grid: tuple[int, int], width: int, layout: str) -> None:
    table = sincos_table(grid, width, layout)
    assert table.shape == (1, 1 + grid[0] * grid[1], width)
    assert not table[:, 0].any(), 'no entry for the class token'
    quarter = width // 4
    for y in range(grid[0]):
        for x in range(grid[1]):
            first, second = (x, y) if layout == 'mae' else (y, x)
            omegas = [10000 ** (-k / quarter) for k in range(quarter)]
            row = [f(p * w) for p in (first, second) for f in (math.sin, math.cos) for w in omegas]
            assert_close(table[0, 1 + y * grid[1] + x], row, rtol=0, atol=1e-6, name=f'row {y}, column {x}')


def test_impossible_requests() -> None:
    with pytest.raises(ConfigError, match='divisible by 4, got 10'):
        sincos_table((2, 2), 10)
    with pytest.raises(ConfigError, match='mocov2'):
        sincos_table((2, 2), 8, 'mocov2')
    with pytest.raises(CheckpointError, match='12 patches, which is not a square grid'):
        resize_position_table(torch.zeros(1, 13, 4), (4, 4))


@pytest.mark.parametrize('grid', [(7, 7), (2, 2), (3, 6), (4, 4)])
@pytest.mark.parametrize('extra', [1, 2, 0])
def test_resizing_equals_mmpretrain(grid: tuple[int, int], extra: int) -> None:
    table = torch.randn(1, extra + 16, 6)
    resized = resize_position_table(table, grid, extra)
    assert torch.equal(resized, resize_pos_embed(table, (4, 4), grid, 'bicubic', extra))
    assert torch.equal(resized[:, :extra], table[:, :extra])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_resizing_keeps_the_dtype(dtype: torch.dtype) -> None:
    table = torch.randn(1, 17, 4)
    resized = resize_position_table(table.to(dtype), (6, 6))
    assert resized.dtype == dtype
    tolerance = {torch.float64: 1e-6}.get(dtype, 1e-2)
    assert_close(resized, resize_position_table(table, (6, 6)), rtol=tolerance)
