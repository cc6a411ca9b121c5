# MoCo v3's ResNet form on a ResNet-18 of 0.7 M parameters: pooled map, projector 128-256-64 of two layers, predictor
# 64-256-64 without batch norm at its end
model = dict(
    type='MoCoV3',
    base_momentum=0.99,
    backbone=dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=128,
        hid_channels=256,
        out_channels=64,
        num_layers=2,
        with_bias=False,
        with_last_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_avg_pool=True,
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    head=dict(
        type='ContrastiveHead',
        temperature=0.2,
        predictor=dict(
            type='mmpretrain.NonLinearNeck',
            in_channels=64,
            hid_channels=256,
            out_channels=64,
            num_layers=2,
            with_bias=False,
            with_last_bias=False,
            with_last_bn=False,
            with_avg_pool=False,
            norm_cfg=dict(type='PortableSyncBN'),
        ),
    ),
)
