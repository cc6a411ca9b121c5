_base_ = './mask-rcnn_r50-mocov2-pre_fpn_1x_coco.py'

# the published file as it is: it needs no conversion
model = dict(backbone=dict(init_cfg=dict(checkpoint='./swav_800ep_pretrain.pth.tar')))
