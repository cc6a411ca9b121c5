# SwAV with ResNet-50: pooled map, projector 2048-2048-128 without batch norm at its end, 3000 prototypes. All linear
# layers of the projector have biases, as released; no residual branch starts at zero
model = dict(
    type='SwAV',
    channels_last=True,
    backbone=dict(type='mmpretrain.ResNet', depth=50, zero_init_residual=False, norm_cfg=dict(type='PortableSyncBN')),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        hid_channels=2048,
        out_channels=128,
        with_bias=True,
        with_last_bias=True,
        with_last_bn=False,
        with_avg_pool=False,
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    head=dict(type='PrototypeHead', num_prototypes=3000),
)
