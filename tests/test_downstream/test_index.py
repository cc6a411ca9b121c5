"""The model index agrees with the configs of detection and segmentation."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import build
from tiny_downstream import CONFIGS

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.zoo.index import get_model, list_models

FOLDERS = [CONFIGS / name for name in ('mmdetection', 'mmsegmentation')]
MODELS = [model for folder in FOLDERS for model in yaml.safe_load((folder / 'metafile.yml').read_text())['Models']]


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_a_model_agrees_with_its_config(model: dict[str, Any]):
    path, metadata = CONFIGS.parent / model['Config'], model['Metadata']
    assert model['Name'] == Path(path).stem
    cfg = load_config(path)
    assert metadata['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    assert cfg.auto_scale_lr.enable is False
    length = cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters'))
    assert length == metadata.get('Epochs', metadata.get('Iterations'))
    assert ('Epochs' in metadata) == (cfg.train_cfg.type == 'EpochBasedTrainLoop')
    assert cfg.param_scheduler[-1].end == length
    assert ('ViT' in metadata['Architecture']) == ('vit' in path.stem)
    assert ('C4' in metadata['Architecture']) == ('_c4' in path.stem)


def test_a_detector_by_name(tmp_path):
    """Built, initialized, and its backbone filled from a file."""
    name = 'mask-rcnn_r50-mocov2-pre_fpn_1x_coco'
    assert name in list_models()
    source = build({'type': 'mmpretrain.ResNet', 'depth': 50})
    save_atomically({'state_dict': source.state_dict()}, tmp_path / 'r50.pth')
    model = get_model(name, pretrained=tmp_path / 'r50.pth')
    assert type(model).__name__ == 'MaskRCNN'
    assert torch.equal(model.backbone.layer4[2].conv3.weight, source.layer4[2].conv3.weight)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
