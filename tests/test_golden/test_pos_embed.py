"""Fixed position tables: both layouts, in the encoder and in MAE's decoder."""

from math import isqrt
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import golden
from helpers import assert_close, build, mae_config, tensor, vit_config

from mmselfsup_graft.checkpoints import sincos_table

LAYOUTS = {'moco_v3': 'mocov3', 'mae': 'mae'}
ROUNDING = 1e-6  # the published tables are computed in single precision


def _grid(table: Any) -> tuple[int, int]:
    side = isqrt(table.shape[1] - 1)
    assert side * side + 1 == table.shape[1]
    return side, side


@pytest.mark.parametrize('name', LAYOUTS)
def test_table(name: str) -> None:
    expected = golden('pos_embed.npz')[name]
    ours = sincos_table(_grid(expected), expected.shape[-1], LAYOUTS[name])
    assert ours.dtype == torch.float32
    assert_close(ours, expected, rtol=0, atol=ROUNDING, name=name)


def test_layouts_are_the_same_up_to_exchanging_rows_and_columns() -> None:
    tables = golden('pos_embed.npz')
    height, width = _grid(tables['mae'])
    swapped = tables['mae'][:, 1:].reshape(1, height, width, -1).transpose(0, 2, 1, 3).reshape(1, height * width, -1)
    assert_close(sincos_table((height, width), swapped.shape[-1], 'mocov3')[:, 1:], swapped, rtol=0, atol=ROUNDING)
    assert np.abs(tables['mae'] - tables['moco_v3']).max() > 0.1, 'the layouts must differ'


@pytest.mark.parametrize('name', LAYOUTS)
def test_table_of_a_fresh_encoder(name: str) -> None:
    expected = golden('pos_embed.npz')[name]
    side = _grid(expected)[0]
    vit = build(vit_config(expected.shape[-1], 1, 1, img_size=side * 2, patch_size=2, init=LAYOUTS[name]))
    vit.init_weights()
    assert_close(vit.pos_embed, expected, rtol=0, atol=ROUNDING, name=name)
    assert not vit.pos_embed.requires_grad


def test_tables_in_the_stored_weights() -> None:
    encoder = golden('moco_state_base.npz')['base_encoder.pos_embed']
    assert_close(sincos_table(_grid(encoder), encoder.shape[-1], 'mocov3'), encoder, rtol=0, atol=ROUNDING)
    decoder = golden('mae_decoder_state.npz')['decoder_pos_embed']
    assert_close(sincos_table(_grid(decoder), decoder.shape[-1], 'mae'), decoder, rtol=0, atol=ROUNDING)


def test_fresh_decoder_has_the_stored_table() -> None:
    stored = golden('mae_decoder_state.npz')['decoder_pos_embed']
    side = _grid(stored)[0]
    model = build(mae_config(vit_config(8, 1, 1, img_size=side * 2, patch_size=2), decoder_width=stored.shape[-1]))
    model.init_weights()
    assert_close(model.neck.decoder_pos_embed, tensor(stored), rtol=0, atol=ROUNDING)
