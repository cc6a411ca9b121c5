_base_ = [
    '../_base_/models/mae_vit-mini-p4.py',
    '../_base_/datasets/fashion_mnist_mae_28.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=28))

default_hooks = dict(checkpoint=dict(interval=5))
