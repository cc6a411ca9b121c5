"""Features of block k: the recorded class tokens, from a checkpoint file in the official layout."""

from pathlib import Path

import pytest
import torch
from golden_sets import golden, some
from helpers import _encoder_heads, assert_close, tensor, vit_config_from_state, vit_from_state

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import BlockFeature, load_backbone

PREFIX = 'base_encoder.'


def test_every_block() -> None:
    state, step = golden('moco_state_base.npz'), golden('moco_step.npz')
    images = tensor(step['x1'])
    for number, expected in enumerate(some(step['block_cls_x1'], 'blocks'), start=1):
        vit = vit_from_state(state, images.shape[-1], PREFIX, _encoder_heads('layer_grafted'))
        vit.eval()
        with torch.no_grad():
            (feature,) = BlockFeature(vit, number)(images)
        assert_close(feature, expected, name=f'block {number}')
    with torch.no_grad():
        (last,) = vit(images)
    assert_close(vit.ln1(feature), last.double(), name='the final norm of the last block')
    assert_close(last, step['feature_x1'], name='final feature')


def test_through_a_checkpoint_file(tmp_path: Path) -> None:
    state, step = golden('moco_state_base.npz'), golden('moco_step.npz')
    config = vit_config_from_state(state, step['x1'].shape[-1], PREFIX, _encoder_heads('layer_grafted'))
    names = {name: tensor(value, torch.float32) for name, value in state.items() if name.startswith(PREFIX)}
    save_atomically({'state_dict': {f'module.{name}': value for name, value in names.items()}}, tmp_path / 'moco.pth')
    count = len(step['block_cls_x1'])
    for number in (1, count):
        encoder = load_backbone(config, tmp_path / 'moco.pth', block=number)
        assert encoder.checkpoint_format == 'mocov3'
        with torch.no_grad():
            (feature,) = encoder(tensor(step['x1'], torch.float32))
        assert_close(feature, step['block_cls_x1'][number - 1], rtol=1e-4, name=f'block {number}')
    for wrong in (0, count + 1):
        with pytest.raises(ConfigError, match=f'block {wrong} does not exist: the encoder has blocks 1 to {count}'):
            load_backbone(config, None, block=wrong)
