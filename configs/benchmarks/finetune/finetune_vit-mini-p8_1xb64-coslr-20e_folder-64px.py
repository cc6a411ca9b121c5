_base_ = [
    '../../_base_/models/finetune_vit-mini-p4.py',
    '../../_base_/datasets/folder_finetune_64.py',
    '../../_base_/schedules/finetune_small_20e.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=64, patch_size=8, in_channels=3), head=dict(num_classes=2))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
