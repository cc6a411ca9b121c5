# The same training on tar archives: docs/data.md, "Shards".
_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/imagenet_shards_mae_224.py',
    '../_base_/schedules/mae_adamw_800e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=20))
