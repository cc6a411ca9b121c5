_base_ = [
    '../_base_/models/simmim_vit-base-p16.py',
    '../_base_/datasets/folder_simmim_224.py',
    '../_base_/schedules/folder_a2mim_vit_300e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=10))
