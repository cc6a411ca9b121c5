_base_ = [
    '../_base_/models/a2mim_convnext-tiny.py',
    '../_base_/datasets/folder_a2mim_224.py',
    '../_base_/schedules/folder_a2mim_300e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=10))
