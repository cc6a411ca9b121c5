# ResNet Strikes Back, A2, as A2MIM's release has it for ResNet-50: drop path 0.05, an average of the weights
_base_ = [
    '../../_base_/models/finetune_rsb_resnet50.py',
    '../../_base_/datasets/imagenet_rsb-a2_224.py',
    '../../_base_/schedules/finetune_rsb-a2_300e.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.05))
custom_hooks = [dict(type='WeightAverageHook', decay=0.9999)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
