# ours: for a folder of some thousand images; the queue must stay well below their number
_base_ = [
    '../_base_/models/moco-v2_resnet18-w16.py',
    '../_base_/datasets/folder_moco-v2_64.py',
    '../_base_/schedules/moco_sgd_200e.py',
    '../_base_/evaluation/folder_64.py',
    '../_base_/default_runtime.py',
]

# 64, 32, 16, 8 and 8 positions per side
model = dict(queue_size=1024, backbone=dict(in_channels=3, strides=(2, 2, 2, 1)))
optim_wrapper = dict(optimizer=dict(lr=0.06, weight_decay=5e-4))
train_cfg = dict(max_epochs=60)
auto_scale_lr = dict(base_batch_size=128)

default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook', cosine=False),
    collapse=dict(type='CollapseHook'),
    checkpoint=dict(interval=5),
)
