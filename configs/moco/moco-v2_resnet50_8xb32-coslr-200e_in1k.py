# the published values of MoCo v2 for 200 epochs, 8 GPUs
_base_ = [
    '../_base_/models/moco-v2_resnet50.py',
    '../_base_/datasets/imagenet_moco-v2_224.py',
    '../_base_/schedules/moco_sgd_200e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook', cosine=False),
    collapse=dict(type='CollapseHook'),
    checkpoint=dict(interval=10),
)
