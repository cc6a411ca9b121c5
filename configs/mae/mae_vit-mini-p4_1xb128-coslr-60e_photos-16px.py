# for looking at reconstructions of a photograph; see the recipe of the digits
_base_ = [
    '../_base_/models/mae_vit-mini-p4.py',
    '../_base_/datasets/photos_mae_16.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=20))
