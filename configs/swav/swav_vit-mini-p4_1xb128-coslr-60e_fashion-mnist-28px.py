# a transformer, with AdamW in place of LARS
_base_ = [
    '../_base_/models/swav_vit-mini-p4.py',
    '../_base_/datasets/fashion_mnist_swav_28.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(frozen_steps=469))
default_hooks = dict(
    steps=dict(type='OptimizerStepHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=5)
)
