_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/folder_mae_224.py',
    '../_base_/schedules/folder_adamw_300e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=10))
