"""The quick start's backbone goes into a detector and a segmentor, in the words of docs/transfer.md."""

import re

import torch
from test_tools.tiny_runs import call_tool
from tiny_downstream import CONFIGS, shrunk_downstream

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.recipes.recipe import load_recipe
from mmselfsup_graft.registry import MODELS

ROOT = CONFIGS.parent


def documented_backbone() -> dict:
    """The backbone of the page's example."""
    page = (ROOT / 'docs' / 'transfer.md').read_text()
    code = re.search(r'```python\n(backbone = dict\(.*?)```', page, re.DOTALL)
    assert code is not None
    found: dict = {}
    exec(code[1], found)
    return found['backbone']


def test_into_a_detector_and_a_segmentor(data, tmp_path):
    recipe = load_recipe(CONFIGS / 'recipes' / 'layer-grafted_vit-micro-p4_digits-16px.py')
    model = MODELS.build({**recipe.stage('lgp').cfg.model, 'graft': None})
    model.init_weights()
    save_atomically({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'epoch_35.pth')
    for target, config in (
        ('mmdet', 'mmdetection/mask-rcnn_vit-base-p16-layer-grafted-pre_fpn_ms-1x_coco.py'),
        ('mmseg', 'mmsegmentation/upernet_vit-base-p16-layer-grafted-pre_8xb2-160k_ade20k-512x512.py'),
    ):
        folder = tmp_path / target
        done = call_tool('model_converters/convert', tmp_path / 'epoch_35.pth', folder / 'lgp.pth', '--to', target)
        assert done.code == 0, done.err
        backbone = documented_backbone()
        backbone['init_cfg']['checkpoint'] = str(folder / 'lgp.pth')
        cfg = shrunk_downstream(CONFIGS / config, data, folder)
        cfg.model.backbone = backbone
        # gray images; three maps of stride 4 instead of a pyramid of four
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.pipeline[0].update(color_type='grayscale')
        preprocessor = cfg.model.data_preprocessor if target == 'mmdet' else cfg.data_preprocessor
        preprocessor.update(mean=[118.0], std=[58.0], bgr_to_rgb=False)
        width = backbone['arch']['embed_dims']
        if target == 'mmdet':
            cfg.model.neck = {**cfg.model.neck[1], 'in_channels': [width] * 3}
            cfg.model.rpn_head.anchor_generator.strides = [4, 4, 4, 8, 16]
            for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
                cfg.model.roi_head[extractor].featmap_strides = [4, 4, 4, 8]
        else:
            cfg.model.neck = None
            cfg.model.decode_head.update(in_channels=[width] * 3, in_index=[0, 1, 2])
            cfg.model.auxiliary_head.in_channels = width
            cfg.train_dataloader.dataset.pipeline = [
                each for each in cfg.train_dataloader.dataset.pipeline if each.type != 'PhotoMetricDistortion'
            ]
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
        runner = GraftRunner.from_cfg(cfg)
        runner.train()
        trained = runner.model.backbone.state_dict()
        began = {
            name.removeprefix('backbone.'): v for name, v in model.state_dict().items() if name.startswith('backbone.')
        }
        for name, value in trained.items():
            assert (value - began[name]).abs().max() < 0.05, name  # a step or two away from where it came from
        assert torch.equal(
            torch.load(folder / 'lgp.pth', weights_only=True)['state_dict']['cls_token'], began['cls_token']
        )
