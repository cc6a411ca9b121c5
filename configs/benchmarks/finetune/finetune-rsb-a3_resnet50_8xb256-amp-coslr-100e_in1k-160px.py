# ResNet Strikes Back, A3
_base_ = [
    '../../_base_/models/finetune_rsb_resnet50.py',
    '../../_base_/datasets/imagenet_rsb-a3_160.py',
    '../../_base_/schedules/finetune_rsb-a3_100e.py',
    '../../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
