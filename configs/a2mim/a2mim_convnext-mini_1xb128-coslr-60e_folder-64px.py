_base_ = [
    '../_base_/models/a2mim_convnext-mini.py',
    '../_base_/datasets/folder_mae_64.py',
    '../_base_/schedules/small_a2mim_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

model = dict(mask_patch=8, backbone=dict(in_channels=3, stem_patch_size=4))

default_hooks = dict(checkpoint=dict(interval=5))
