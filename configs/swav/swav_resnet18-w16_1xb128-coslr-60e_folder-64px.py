# a folder without labels: the number of prototypes is a guess
_base_ = [
    '../_base_/models/swav_resnet18-w16.py',
    '../_base_/datasets/folder_swav_64.py',
    '../_base_/schedules/swav_lars_60e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(in_channels=3))
default_hooks = dict(
    steps=dict(type='OptimizerStepHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=5)
)
