_base_ = [
    '../../_base_/models/finetune_vit-mini-p4.py',
    '../../_base_/datasets/fashion_mnist_finetune_28.py',
    '../../_base_/schedules/finetune_small_20e.py',
    '../../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
