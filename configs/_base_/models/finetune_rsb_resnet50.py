# ResNet-50 as in ResNet Strikes Back: a sigmoid for each class, mixup 0.1 or cutmix in every batch, half each
model = dict(
    type='GraftedClassifier',
    channels_last=True,
    backbone=dict(type='SelfSupResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        loss=dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True),
    ),
    train_cfg=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.1), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
