# weights and length of the published baseline are not known: 1 : 1, and MoCo v3's recipe
_base_ = [
    '../_base_/models/multi-task_vit-base-p16.py',
    '../_base_/datasets/imagenet_multi_task_224.py',
    '../_base_/schedules/mocov3_adamw_300e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=64)
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'),
    collapse=dict(type='CollapseHook', parts=['backbone', 'objectives.cl.neck']),
    checkpoint=dict(interval=10),
)
custom_hooks = [dict(type='GradientConflictHook', interval=1000)]
