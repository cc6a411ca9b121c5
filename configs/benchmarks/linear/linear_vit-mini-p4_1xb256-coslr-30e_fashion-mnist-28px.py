_base_ = [
    '../../_base_/models/frozen_vit-mini-p4_28.py',
    '../../_base_/evaluation/fashion_mnist_linear_28.py',
    '../../_base_/default_runtime.py',
]
