_base_ = [
    '../../_base_/models/frozen_resnet50.py',
    '../../_base_/evaluation/imagenet_linear_224.py',
    '../../_base_/default_runtime.py',
]
