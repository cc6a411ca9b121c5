# SwAV for a ResNet-50 on ImageNet with the small batch of its release, then Mask R-CNN on COCO from it, on 8 GPUs
configs = dict(
    swav='../swav/swav_resnet50_4xb64-amp-coslr-200e_in1k.py',
    mask_rcnn='../mmdetection/mask-rcnn_r50-swav-pre_fpn_1x_coco.py',
)

stages = [
    dict(name='swav', config='swav', options={'train_dataloader.batch_size': 32}),
    dict(name='mask_rcnn', config='mask_rcnn', options={'model.backbone.init_cfg.checkpoint': 'stage:swav'}),
]
