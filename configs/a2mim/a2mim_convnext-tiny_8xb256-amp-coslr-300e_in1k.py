_base_ = [
    '../_base_/models/a2mim_convnext-tiny.py',
    '../_base_/datasets/imagenet_a2mim_224.py',
    '../_base_/schedules/a2mim_adamw_convnext_300e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=10))
