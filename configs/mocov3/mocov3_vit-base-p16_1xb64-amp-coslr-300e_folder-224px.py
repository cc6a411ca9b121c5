_base_ = [
    '../_base_/models/mocov3_vit-base-p16.py',
    '../_base_/datasets/folder_mocov3_224.py',
    '../_base_/schedules/folder_mocov3_300e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=10)
)
