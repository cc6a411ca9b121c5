"""Block masks and the mixing of a mask token."""

import numpy as np
import pytest
import torch
from helpers import assert_close

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.masking import block_grid, block_mask_from_noise, expand_mask, mix_mask_token


@pytest.mark.parametrize(('grid', 'ratio', 'count'), [((7, 7), 0.6, 30), ((6, 6), 0.6, 22), ((2, 3), 0.5, 3)])
def test_block_masks_hide_the_smallest_noise_rounded_up(grid: tuple[int, int], ratio: float, count: int) -> None:
    noise = torch.rand(5, *grid)
    mask = block_mask_from_noise(noise, ratio)
    for image in range(5):
        limit = noise[image].flatten().sort().values[count]
        assert torch.equal(mask[image], (noise[image] < limit).float())
    assert len({tuple(each.flatten().tolist()) for each in mask}) > 1, 'one mask per image'


def test_every_block_is_hidden_equally_often() -> None:
    rate = block_mask_from_noise(torch.rand(4000, 3, 3), 0.6).mean(0)  # 6 of 9 blocks
    assert_close(rate, np.full((3, 3), 6 / 9), atol=0.04)  # five standard deviations


def test_expansion_repeats_cells() -> None:
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    wide = expand_mask(mask, (4, 6))
    assert wide.shape == (1, 1, 4, 6)
    for row in range(4):
        for column in range(6):
            assert wide[0, 0, row, column] == mask[0, row // 2, column // 3]
    assert torch.equal(expand_mask(mask, (2, 2))[:, 0], mask)


def test_impossible_sizes() -> None:
    with pytest.raises(ConfigError, match='mask_patch=32 does not divide images of 224x100 pixels'):
        block_grid((224, 100), 32)
    with pytest.raises(ConfigError, match='2x2 blocks does not fit a map of 5x4'):
        expand_mask(torch.zeros(1, 2, 2), (5, 4))
    with pytest.raises(ConfigError, match='2x2 blocks does not fit a map of 1x1'):
        expand_mask(torch.zeros(1, 2, 2), (1, 1))
    for ratio, count in ((0.9, 4), (0.0, 0)):
        with pytest.raises(ConfigError, match=f'hides {count} of the 4 blocks'):
            block_mask_from_noise(torch.rand(1, 2, 2), ratio)


def test_mixing_by_hand() -> None:
    z, token, gain = torch.randn(2, 3, 4, 4), torch.randn(1, 3, 1, 1), torch.randn(1, 3, 1, 1)
    mask = torch.randint(0, 2, (2, 1, 4, 4))
    for image, channel, row, column in np.ndindex(2, 3, 4, 4):
        place = (image, channel, row, column)
        value, hidden = z[place], mask[image, 0, row, column]
        t, g = token[0, channel, 0, 0], gain[0, channel, 0, 0]
        assert mix_mask_token(z, mask, token)[place] == (t if hidden else value)
        assert mix_mask_token(z, mask, token, gain, replace=False)[place] == (g * value + t if hidden else value)
        assert mix_mask_token(z, mask, token, replace=False)[place] == (value + t if hidden else value)
