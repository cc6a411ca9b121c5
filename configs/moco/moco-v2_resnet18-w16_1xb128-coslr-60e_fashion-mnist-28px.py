# ours: a shorter queue for 60,000 small images; batch norm in 8 groups of 16
_base_ = [
    '../_base_/models/moco-v2_resnet18-w16.py',
    '../_base_/datasets/fashion_mnist_mocov3_28.py',
    '../_base_/schedules/moco_sgd_200e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=0.06, weight_decay=5e-4))
train_cfg = dict(max_epochs=60)
auto_scale_lr = dict(base_batch_size=128)

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook', cosine=False),
    collapse=dict(type='CollapseHook'),
    checkpoint=dict(interval=5),
)
