# BYOL with ResNet-50: pooled map, projector 2048-4096-256, predictor 256-4096-256, neither with batch norm at its end.
# The linear layers have no bias: before batch norm it has no effect, and the released last layers have none
model = dict(
    type='BYOL',
    base_momentum=0.99,
    channels_last=True,
    backbone=dict(type='mmpretrain.ResNet', depth=50, norm_cfg=dict(type='PortableSyncBN')),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        hid_channels=4096,
        out_channels=256,
        num_layers=2,
        with_last_bn=False,
        with_avg_pool=True,
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    head=dict(
        type='mmpretrain.NonLinearNeck',
        hid_channels=4096,
        num_layers=2,
        with_last_bn=False,
        with_avg_pool=False,
        norm_cfg=dict(type='PortableSyncBN'),
    ),
)
