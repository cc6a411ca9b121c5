_base_ = [
    '../../_base_/models/frozen_convnext-tiny.py',
    '../../_base_/evaluation/imagenet_linear_224.py',
    '../../_base_/default_runtime.py',
]
