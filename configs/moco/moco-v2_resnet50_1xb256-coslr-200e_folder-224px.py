# ours: the published recipe for an own folder, on one GPU with batch norm in 8 groups of 32. The queue must stay well
# below the number of images
_base_ = [
    '../_base_/models/moco-v2_resnet50.py',
    '../_base_/datasets/folder_moco-v2_224.py',
    '../_base_/schedules/moco_sgd_200e.py',
    '../_base_/evaluation/folder_224.py',
    '../_base_/default_runtime.py',
]

model = dict(queue_size=16384)

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook', cosine=False),
    collapse=dict(type='CollapseHook'),
    checkpoint=dict(interval=10),
)
