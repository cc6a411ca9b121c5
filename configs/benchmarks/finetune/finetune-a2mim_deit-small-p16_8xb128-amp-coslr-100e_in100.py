# A2MIM's released recipe of DeiT-S on ImageNet-100
_base_ = [
    '../../_base_/models/finetune_beit-base-p16.py',
    '../../_base_/datasets/imagenet100_finetune_224.py',
    '../../_base_/schedules/finetune_simmim_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='deit-small'), head=dict(num_classes=100))
optim_wrapper = dict(optimizer=dict(lr=8e-3))
param_scheduler = [dict(type='WarmupCosineLR', warmup=5, min_lr=1e-6, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
