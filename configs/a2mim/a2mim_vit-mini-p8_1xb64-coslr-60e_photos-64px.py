# for reconstructions of photographs
_base_ = [
    '../_base_/models/a2mim_vit-mini-p4.py',
    '../_base_/datasets/photos_a2mim_64.py',
    '../_base_/schedules/small_a2mim_vit_60e.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

model = dict(
    mask_patch=8,
    backbone=dict(img_size=64, patch_size=8, in_channels=3),
)

auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(checkpoint=dict(interval=20))
