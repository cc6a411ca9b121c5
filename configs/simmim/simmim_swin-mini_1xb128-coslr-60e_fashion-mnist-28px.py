_base_ = [
    '../_base_/models/simmim_swin-mini.py',
    '../_base_/datasets/fashion_mnist_mae_28.py',
    '../_base_/schedules/small_a2mim_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=5))
