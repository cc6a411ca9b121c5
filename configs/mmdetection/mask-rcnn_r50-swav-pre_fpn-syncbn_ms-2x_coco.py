_base_ = './mask-rcnn_r50-mocov2-pre_fpn-syncbn_ms-2x_coco.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./swav_800ep_pretrain.pth.tar')))
