# A2MIM's released recipe of ResNet-50 on ImageNet-100: AdamW and the augmentation of ViTs
_base_ = [
    '../../_base_/models/finetune_vit-base-p16.py',
    '../../_base_/datasets/imagenet100_finetune_224.py',
    '../../_base_/schedules/finetune_adamw_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(_delete_=True, type='SelfSupResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(num_classes=100),
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=dict(_delete_=True, no_decay_1d=True))
param_scheduler = [dict(type='WarmupCosineLR', warmup=20, min_lr=1e-6, by_epoch=True, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=2048)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
