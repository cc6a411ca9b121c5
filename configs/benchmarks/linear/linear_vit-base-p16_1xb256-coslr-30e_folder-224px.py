_base_ = [
    '../../_base_/models/frozen_vit-base-p16.py',
    '../../_base_/evaluation/folder_linear_224.py',
    '../../_base_/default_runtime.py',
]
