_base_ = '../_base_/mmdetection/mask-rcnn_vit-base-p16_fpn_ms-1x_coco.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./tec_vit-base_pretrain.pth')))
