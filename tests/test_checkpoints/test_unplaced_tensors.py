"""Which tensors a model may do without: exact names, by the kind of the encoder."""

import pytest

from mmselfsup_graft.checkpoints.unplaced_tensors import is_staged, unplaced

VIT = ('layers.0.attn.qkv.weight', 'ln1.weight')
STAGES = ('stages.0.blocks.0.norm1.weight', 'norm0.weight', 'norm1.bias')


@pytest.mark.parametrize(
    'name',
    [
        'head.weight',
        'head_dist.bias',
        'decode_head.conv.weight',
        'fc.0.weight',
        'decoder.0.weight',
        'decoder_norm.bias',
        'mask_token',
        'mask_gamma',
        'queue',
        'queue_ptr',
        'queue2',
        'logit_scale',
        'projector.0.weight',
        'predictor.weight',
        'layers.0.attn.relative_position_index',
        'bn1.num_batches_tracked',
    ],
)
def test_harmless(name: str) -> None:
    assert unplaced([*VIT, name], VIT) == []
    assert unplaced([*STAGES, name], STAGES) == []


@pytest.mark.parametrize(
    'name',
    [
        'head_norm.weight',
        'overhead.weight',
        'neck.0.weight',
        'pooler.dense.weight',
        'queued.weight',
        'fc_norm.weight',
        'layers.0.head.weight',
        'layers.0.attn.logit_scale',
        'attn_pool.latent',
        'mask_token_norm.weight',
        'norm_pre.weight',
        'layers.0.attn.rel_pos_h',
        'dist_token',
        'layers.0.norm1.weight',
    ],
)
def test_features(name: str) -> None:
    assert unplaced([*VIT, name], VIT) == [name]
    assert unplaced([*STAGES, name], STAGES) == [name]


def test_norms_belong_to_kinds() -> None:
    """Outputs of stages have norms of their own; a ViT with ``norm1`` or stages with ``ln1`` are something else."""
    assert is_staged(STAGES)
    assert not is_staged(VIT)
    assert unplaced([*VIT], ['layers.0.attn.qkv.weight']) == []
    assert unplaced([*STAGES], ['stages.0.blocks.0.norm1.weight']) == []
    assert unplaced([*VIT, 'norm1.weight'], VIT) == ['norm1.weight']
    assert unplaced([*STAGES, 'ln1.weight'], STAGES) == ['ln1.weight']
