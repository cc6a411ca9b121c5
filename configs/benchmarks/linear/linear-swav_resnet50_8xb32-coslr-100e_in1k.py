# SwAV's linear evaluation: one head on the frozen encoder, lr 0.3, cosine from epoch to epoch; the best epoch counts
_base_ = ['../../_base_/datasets/imagenet_swav_labeled_224.py', '../../_base_/default_runtime.py']

model = dict(
    type='GraftedClassifier',
    channels_last=True,
    frozen_layers=16,
    backbone=dict(type='mmpretrain.ResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, loss=dict(type='mmpretrain.CrossEntropyLoss')),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.3, momentum=0.9, weight_decay=1e-6),
    constructor='LayerWiseLRConstructor',
)
param_scheduler = [dict(type='WarmupCosineLR', warmup=0, by_epoch=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=256)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
