"""The encoder that a run leaves behind."""

import pytest
import torch
from helpers import build, mae_config, tec_config, vit_config
from test_tools.tiny_runs import tiny_config, write_config

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import ExportBackboneHook, GraftRunner
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError


def test_the_exported_backbone_is_a_plain_vit(tmp_path, monkeypatch):
    """After a TEC run: names of the target, class token merged, nothing of pre-training."""
    base = build(mae_config(vit_config(in_channels=1)))
    save_atomically({'state_dict': base.state_dict()}, tmp_path / 'base.pth')
    content = tiny_config('mim', images=8, epochs=1, custom_hooks=[dict(type='ExportBackboneHook', target='timm')])
    content['model'] = tec_config(content['model']['backbone'], checkpoint=str(tmp_path / 'base.pth'))
    cfg = load_config(write_config(tmp_path / 'tec.py', content))
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'run'), 'exported'
    runner = GraftRunner.from_cfg(cfg)
    runner.train()
    content = torch.load(tmp_path / 'run' / 'backbone.pth', weights_only=True)
    assert set(content) == {'state_dict', 'meta'}
    assert content['meta']['target'] == 'timm'
    assert {name.split('.')[0] for name in content['state_dict']} == {
        *('cls_token', 'pos_embed', 'patch_embed', 'blocks', 'norm')
    }
    assert torch.equal(content['state_dict']['cls_token'], runner.model.backbone.input_token())
    with pytest.raises(ConfigError, match='unknown target'):
        ExportBackboneHook(target='caffe')
