_base_ = [
    '../_base_/models/simmim_swin-base.py',
    '../_base_/datasets/imagenet_simmim_192.py',
    '../_base_/schedules/a2mim_adamw_vit_800e.py',
    '../_base_/evaluation/imagenet_192.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=8e-4), accumulative_counts=2)
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=10,
        min_lr=4e-5,
        cosine_in_warmup=True,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=1024, accumulated=2)

default_hooks = dict(checkpoint=dict(interval=10))

custom_hooks = [dict(type='ReconstructionHook', interval=10)]
