# A2MIM's released recipe of ConvNeXt-S, which its README calls RSB A2 incorrectly: batch 4096 in two steps
_base_ = [
    '../../_base_/models/finetune_convnext-tiny.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_convnext_300e.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='small', drop_path_rate=0.4))
train_dataloader = dict(batch_size=256)
custom_hooks = [dict(type='WeightAverageHook', decay=0.9999)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
