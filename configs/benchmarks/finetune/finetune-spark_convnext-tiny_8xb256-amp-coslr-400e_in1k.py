# A2MIM's released recipe of ConvNeXt-T, with SparK's settings
_base_ = [
    '../../_base_/models/finetune_convnext-tiny.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_convnext-spark_400e.py',
    '../../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=256)
custom_hooks = [dict(type='WeightAverageHook', decay=0.9999)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
