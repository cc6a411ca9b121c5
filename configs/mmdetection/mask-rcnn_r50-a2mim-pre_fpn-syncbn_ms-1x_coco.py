_base_ = '../_base_/mmdetection/mask-rcnn_r50_fpn-syncbn_ms-1x_coco.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./a2mim_r50_300ep_pretrain.pth')))
