_base_ = [
    '../../_base_/models/frozen_swin-base.py',
    '../../_base_/evaluation/imagenet_linear_192.py',
    '../../_base_/default_runtime.py',
]
