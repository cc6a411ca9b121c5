# the published recipe; the first epoch and one iteration, 313, keep the prototypes
_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_swav_224.py',
    '../_base_/schedules/swav_lars_200e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(frozen_steps=313))
default_hooks = dict(
    steps=dict(type='OptimizerStepHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=25)
)
