# SwAV's semi-supervised evaluation on 10 % of the labels: the head learns at 20 times the rate of the encoder
_base_ = ['../../_base_/datasets/imagenet_swav_labeled_224.py', '../../_base_/default_runtime.py']

model = dict(
    type='GraftedClassifier',
    channels_last=True,
    backbone=dict(type='mmpretrain.ResNet', depth=50, norm_cfg=dict(type='PortableSyncBN')),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=None,
    ),
)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageList',
        data_root='data/imagenet',
        ann_file='data/imagenet_subsets/10percent.txt',
        pipeline={{_base_.train_pipeline}},
    )
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(head_lr_scale=20.0),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[12, 16], gamma=0.2, by_epoch=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=256)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
