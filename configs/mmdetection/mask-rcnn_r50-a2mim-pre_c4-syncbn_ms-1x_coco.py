_base_ = '../_base_/mmdetection/mask-rcnn_r50_c4-syncbn_ms-1x_coco.py'

# stages 1 to 3 go into the backbone, stage 4 into the head on regions
pretrained = './a2mim_r50_300ep_pretrain.pth'
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=pretrained)),
    roi_head=dict(shared_head=dict(init_cfg=dict(checkpoint=pretrained))),
)
