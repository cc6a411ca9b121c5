_base_ = [
    '../_base_/models/a2mim_vit-mini-p4.py',
    '../_base_/datasets/folder_mae_64.py',
    '../_base_/schedules/small_a2mim_vit_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

model = dict(mask_patch=8, backbone=dict(img_size=64, patch_size=8, in_channels=3))

default_hooks = dict(checkpoint=dict(interval=5))
