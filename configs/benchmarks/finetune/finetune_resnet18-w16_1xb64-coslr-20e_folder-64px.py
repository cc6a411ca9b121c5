_base_ = [
    '../../_base_/models/finetune_vit-mini-p4.py',
    '../../_base_/datasets/folder_finetune_64.py',
    '../../_base_/schedules/finetune_small_20e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 2, 1),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(num_classes=2),
)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
