"""Rename tables: there and back, whole components only."""

import pytest
from helpers import build, mae_config, moco_config, vit_config

from mmselfsup_graft.checkpoints import MAE_MODEL, MOCOV3_MODEL, VIT_TIMM, RenameTable


@pytest.mark.parametrize(
    ('table', 'foreign', 'canonical'),
    [
        (VIT_TIMM, 'blocks.10.norm1.weight', 'layers.10.ln1.weight'),
        (VIT_TIMM, 'blocks.3.norm2.bias', 'layers.3.ln2.bias'),
        (VIT_TIMM, 'blocks.3.attn.qkv.weight', 'layers.3.attn.qkv.weight'),
        (VIT_TIMM, 'blocks.3.attn.proj.bias', 'layers.3.attn.proj.bias'),
        (VIT_TIMM, 'blocks.3.mlp.fc1.weight', 'layers.3.ffn.layers.0.0.weight'),
        (VIT_TIMM, 'blocks.3.mlp.fc2.weight', 'layers.3.ffn.layers.1.weight'),
        (VIT_TIMM, 'patch_embed.proj.weight', 'patch_embed.projection.weight'),
        (VIT_TIMM, 'norm.weight', 'ln1.weight'),
        (VIT_TIMM, 'cls_token', 'cls_token'),
        (VIT_TIMM, 'norm_of_something.weight', 'norm_of_something.weight'),
        (MAE_MODEL, 'decoder_blocks.1.mlp.fc2.bias', 'neck.decoder_blocks.1.ffn.layers.1.bias'),
        (MAE_MODEL, 'decoder_norm.weight', 'neck.ln1.weight'),
        (MAE_MODEL, 'mask_token', 'neck.mask_token'),
        (MAE_MODEL, 'norm.bias', 'backbone.ln1.bias'),
        (MAE_MODEL, 'pos_embed', 'backbone.pos_embed'),
        (MAE_MODEL, 'decoder_pos_embed', 'neck.decoder_pos_embed'),
        (MOCOV3_MODEL, 'base_encoder.head.3.weight', 'neck.fc1.weight'),
        (MOCOV3_MODEL, 'base_encoder.head.7.running_var', 'neck.bn2.running_var'),
        (MOCOV3_MODEL, 'momentum_encoder.head.0.weight', 'momentum_encoder.neck.fc0.weight'),
        (MOCOV3_MODEL, 'momentum_encoder.blocks.2.norm1.bias', 'momentum_encoder.backbone.layers.2.ln1.bias'),
        (MOCOV3_MODEL, 'predictor.4.running_mean', 'head.predictor.bn1.running_mean'),
        (MOCOV3_MODEL, 'base_encoder.norm.weight', 'backbone.ln1.weight'),
        (MOCOV3_MODEL, 'base_encoder.pos_embed', 'backbone.pos_embed'),
    ],
)
def test_both_directions(table: RenameTable, foreign: str, canonical: str) -> None:
    assert table.to_canonical(foreign) == canonical
    assert table.from_canonical(canonical) == foreign


@pytest.mark.parametrize(
    ('table', 'config'),
    [(MAE_MODEL, mae_config(vit_config(depth=11), decoder_depth=2)), (MOCOV3_MODEL, moco_config(vit_config(depth=11)))],
    ids=['mae', 'mocov3'],
)
def test_every_tensor_of_a_model_survives_the_round_trip(table: RenameTable, config: dict) -> None:
    names = list(build(config).state_dict())
    foreign = [table.from_canonical(name) for name in names]
    assert len(set(foreign)) == len(names), 'no two names may fall together'
    assert not [n for n in foreign if n.startswith(('backbone.', 'neck.'))], 'every name has a foreign form'
    assert [table.to_canonical(name) for name in foreign] == names


def test_first_matching_pair_wins() -> None:
    table = RenameTable((('a.{i}.b', 'x.{i}.y'), ('a.{i}', 'z.{i}')))
    assert [table.to_canonical(n) for n in ('a.12.b.c', 'a.12.bb', 'a.12', 'a.b')] == [
        'x.12.y.c',
        'z.12.bb',
        'z.12',
        'a.b',
    ]
