_base_ = '../_base_/mmdetection/mask-rcnn_r50_fpn-syncbn_ms-1x_coco.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./swav_800ep_pretrain.pth.tar')))
