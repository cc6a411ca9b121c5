# A2MIM's and SimMIM's released recipe of ViT-B: the average of the weights is evaluated
_base_ = [
    '../../_base_/models/finetune_beit-base-p16.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_simmim_100e.py',
    '../../_base_/default_runtime.py',
]

custom_hooks = [dict(type='WeightAverageHook', decay=0.99996, ramp_epochs=20, ramp_start=0.9)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
