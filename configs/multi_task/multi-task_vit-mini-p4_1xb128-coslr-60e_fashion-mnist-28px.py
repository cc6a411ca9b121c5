_base_ = [
    '../_base_/models/multi-task_vit-mini-p4.py',
    '../_base_/datasets/fashion_mnist_multi_task_28.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/fashion_mnist_28.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=28))

# as the small MoCo v3
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1), paramwise_cfg=dict(_delete_=True))
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'),
    collapse=dict(type='CollapseHook', parts=['backbone', 'objectives.cl.neck']),
    checkpoint=dict(interval=5),
)
custom_hooks = [dict(type='GradientConflictHook', interval=50)]
