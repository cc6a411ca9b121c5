# ten prototypes per class, kept for the first epoch and one iteration
_base_ = [
    '../_base_/models/swav_resnet18-w16.py',
    '../_base_/datasets/fashion_mnist_swav_28.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(frozen_steps=469))
# AdamW, everything is decayed, see records/moco_swav_fashion_mnist/tuning.txt
optim_wrapper = dict(optimizer=dict(lr=3e-3, betas=(0.9, 0.999), weight_decay=0.1), paramwise_cfg=dict(_delete_=True))
default_hooks = dict(
    steps=dict(type='OptimizerStepHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=5)
)
