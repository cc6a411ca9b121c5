# MoCo v3's ResNet form on a ResNet-18 of 0.7 M parameters: pooled map, projector 128-256-64 of two layers, predictor
# 64-256-64 without batch norm at its end
_base_ = './mocov3_vit-base-p16.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    neck=dict(hid_channels=256, out_channels=64, num_layers=2, with_avg_pool=True),
    head=dict(predictor=dict(hid_channels=256, with_last_bn=False)),
)
