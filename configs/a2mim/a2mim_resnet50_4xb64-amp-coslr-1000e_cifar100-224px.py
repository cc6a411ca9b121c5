# two accumulated batches of 4 x 64 make the published 512
_base_ = [
    '../_base_/models/a2mim_resnet50.py',
    '../_base_/datasets/cifar100_a2mim_224.py',
    '../_base_/schedules/a2mim_adamw_resnet_100e.py',
    '../_base_/evaluation/cifar100_224.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(type='AutocastOptimWrapper', dtype='auto', accumulative_counts=2)
train_cfg = dict(max_epochs=1000)
auto_scale_lr = dict(base_batch_size=256, accumulated=2)

default_hooks = dict(checkpoint=dict(interval=50))
