# the authors' run of 100 epochs at batch 4096: lr 0.6 * 4096 / 256, momentum 0.99 to 1, crops of at least a fifth
_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/imagenet_mocov3_224.py',
    '../_base_/evaluation/imagenet_224.py',
    '../_base_/default_runtime.py',
]

crop = dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bilinear')
view1, view2 = [crop, *_base_.view1[1:]], [crop, *_base_.view2[1:]]
train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='TwoViews', view1=view1, view2=view2),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# LARS neither decays nor adapts biases and batch norm
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='LARS', lr=9.6, momentum=0.9, weight_decay=1e-6, trust_coefficient=1e-3),
)
param_scheduler = [dict(type='WarmupCosineLR', warmup=10, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
default_hooks = dict(
    momentum=dict(type='MomentumScheduleHook'), collapse=dict(type='CollapseHook'), checkpoint=dict(interval=10)
)
