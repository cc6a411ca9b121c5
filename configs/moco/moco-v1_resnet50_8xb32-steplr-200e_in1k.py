# the published values of MoCo v1 for 200 epochs, 8 GPUs: a tenth of the rate from epoch 120 and from 160 on
_base_ = [
    '../_base_/models/moco-v1_resnet50.py',
    '../_base_/datasets/imagenet_moco-v1_224.py',
    '../_base_/schedules/moco_sgd_200e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

param_scheduler = [dict(type='MultiStepLR', milestones=[120, 160], gamma=0.1, by_epoch=True)]

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook', cosine=False),
    collapse=dict(type='CollapseHook'),
    checkpoint=dict(interval=10),
)
