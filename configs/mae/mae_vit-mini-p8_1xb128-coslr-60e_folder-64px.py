_base_ = [
    '../_base_/models/mae_vit-mini-p4.py',
    '../_base_/datasets/folder_mae_64.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(img_size=64, patch_size=8, in_channels=3),
    head=dict(norm_pix=True),
)

default_hooks = dict(checkpoint=dict(interval=5))
