_base_ = [
    '../../_base_/models/finetune_vit-base-p16.py',
    '../../_base_/datasets/folder_finetune_224.py',
    '../../_base_/schedules/finetune_folder_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=2))
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
