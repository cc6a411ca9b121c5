# two accumulated batches of 8 x 128 make the published 2048
_base_ = [
    '../_base_/models/a2mim_vit-base-p16.py',
    '../_base_/datasets/imagenet_simmim_224.py',
    '../_base_/schedules/a2mim_adamw_vit_800e.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=1024, accumulated=2)

default_hooks = dict(checkpoint=dict(interval=20))
