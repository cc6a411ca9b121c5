# MoCo v3 with ResNet-50: pooled map, projector 2048-4096-256 of two layers, predictor 256-4096-256 without batch norm at
# its end, temperature 1
_base_ = './mocov3_vit-base-p16.py'

model = dict(
    channels_last=True,
    backbone=dict(
        _delete_=True, type='mmpretrain.ResNet', depth=50, norm_cfg=dict(type='PortableSyncBN'), zero_init_residual=True
    ),
    neck=dict(num_layers=2, with_avg_pool=True),
    head=dict(temperature=1.0, predictor=dict(with_last_bn=False)),
)
