# no Fourier loss; two accumulated batches of 4 x 256 make the published 2048
_base_ = [
    '../_base_/models/a2mim_vit-base-p16.py',
    '../_base_/datasets/cifar100_a2mim_224.py',
    '../_base_/schedules/a2mim_adamw_vit_800e.py',
    '../_base_/evaluation/cifar100_224.py',
    '../_base_/reconstructions.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='small'), head=dict(fft_weight=0.0))

train_dataloader = dict(batch_size=256)
optim_wrapper = dict(type='AutocastOptimWrapper', dtype='auto', optimizer=dict(lr=8e-4), accumulative_counts=2)
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
train_cfg = dict(max_epochs=1000)
auto_scale_lr = dict(base_batch_size=1024, accumulated=2)

default_hooks = dict(checkpoint=dict(interval=50))
