_base_ = [
    '../_base_/models/mocov3_resnet18-w16.py',
    '../_base_/datasets/folder_mocov3_64.py',
    '../_base_/schedules/small_adamw_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/default_runtime.py',
]

# 64, 32, 16, 8 and 8 positions per side
model = dict(backbone=dict(in_channels=3, strides=(2, 2, 2, 1)))

# everything is decayed, as in MoCo v3
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1), paramwise_cfg=dict(_delete_=True))
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=5)
)
