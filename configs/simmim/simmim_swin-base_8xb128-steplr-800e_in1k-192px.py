_base_ = [
    '../_base_/models/simmim_swin-base.py',
    '../_base_/datasets/imagenet_simmim_192.py',
    '../_base_/schedules/a2mim_adamw_vit_800e.py',
    '../_base_/evaluation/imagenet_192.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=1024, accumulated=2)

default_hooks = dict(checkpoint=dict(interval=20))
