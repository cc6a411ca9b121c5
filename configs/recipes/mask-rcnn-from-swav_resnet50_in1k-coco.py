# SwAV for a ResNet-50 on ImageNet, then Mask R-CNN on COCO from it; SwAV's batch of 4096 needs 64 GPUs
configs = dict(
    swav='../swav/swav_resnet50_64xb64-amp-coslr-200e_in1k.py',
    mask_rcnn='../mmdetection/mask-rcnn_r50-swav-pre_fpn_1x_coco.py',
)

stages = [
    dict(name='swav', config='swav'),
    dict(name='mask_rcnn', config='mask_rcnn', options={'model.backbone.init_cfg.checkpoint': 'stage:swav'}),
]
