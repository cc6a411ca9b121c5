"""Foreign weights enter by a graft only, and only where they fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, mae_config, moco_config, vit_config

from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation import load_backbone


class _Executed:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize('place', ['backbone', 'model', 'list', 'evaluation'])
def test_pretrained_init_is_refused_and_never_unpickled(place: str, tmp_path: Path) -> None:
    torch.save(_Executed(tmp_path / 'executed'), tmp_path / 'evil.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'evil.pth'))
    config = mae_config(vit_config())
    if place == 'model':
        config['init_cfg'] = init
    else:
        config['backbone']['init_cfg'] = [init] if place == 'list' else init
    with pytest.raises(ConfigError, match=r'model\.graft'):
        load_backbone(config['backbone'], None) if place == 'evaluation' else build(config).init_weights()
    assert not (tmp_path / 'executed').exists()


def test_a_checkpoint_of_another_depth_is_refused(tmp_path: Path) -> None:
    deep = build(vit_config(depth=6))
    torch.save({f'backbone.{name}': value for name, value in deep.state_dict().items()}, tmp_path / 'deep.pth')
    graft = [dict(checkpoint=str(tmp_path / 'deep.pth'))]
    model = build({**moco_config(vit_config(depth=3)), 'graft': graft})
    with pytest.raises(CheckpointError, match='has 6 blocks, expected 3'):
        model.init_weights()


def test_mae_needs_a_backbone_that_masks() -> None:
    config = mae_config(vit_config())
    config['backbone'] = dict(type='mmpretrain.ResNet', depth=18)
    with pytest.raises(ConfigError, match='ResNet'):
        build(config)


def test_frozen_layers_of_the_momentum_encoder_stay_in_eval_mode() -> None:
    model = build({**moco_config(vit_config(depth=3, drop_path_rate=0.5)), 'frozen_layers': 2}).train()
    frozen, free = model.momentum_encoder.backbone.layers[:2], model.momentum_encoder.backbone.layers[2]
    assert not any(module.training for layer in frozen for module in layer.modules())
    assert free.training
    assert model.momentum_encoder.neck.training
