# the published values for 300 epochs at batch 4096: lr 0.3 * 4096 / 256, warm-up of 10 epochs, momentum 0.99 to 1
_base_ = [
    '../_base_/models/byol_resnet50.py',
    '../_base_/datasets/imagenet_mocov3_224.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

# MoCo v3's views with BYOL's bicubic crops
crop = dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic')
flip = dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5)
jitter = dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
colors = [
    dict(type='RandomApply', transforms=[jitter], p=0.8),
    dict(type='mmpretrain.torchvision/RandomGrayscale', p=0.2),
]
view1 = [crop, flip, *colors, dict(type='PILGaussianBlur', radius=(0.1, 2.0), p=1.0)]
view2 = [
    crop,
    flip,
    *colors,
    dict(type='PILGaussianBlur', radius=(0.1, 2.0), p=0.1),
    dict(type='mmpretrain.torchvision/RandomSolarize', threshold=128, p=0.2),
]
train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='TwoViews', view1=view1, view2=view2),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))

# LARS neither decays nor adapts biases and batch norm
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='LARS', lr=4.8, momentum=0.9, weight_decay=1e-6, trust_coefficient=1e-3),
)
param_scheduler = [dict(type='WarmupCosineLR', warmup=10, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=300)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=10)
)
