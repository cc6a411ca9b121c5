# MoCo v2 for a ResNet-50 on ImageNet, then Mask R-CNN on COCO from it, on 8 GPUs
configs = dict(
    mocov2='../moco/moco-v2_resnet50_8xb32-coslr-200e_in1k.py',
    mask_rcnn='../mmdetection/mask-rcnn_r50-mocov2-pre_fpn_1x_coco.py',
)

stages = [
    dict(name='mocov2', config='mocov2'),
    dict(name='mask_rcnn', config='mask_rcnn', options={'model.backbone.init_cfg.checkpoint': 'stage:mocov2'}),
]
