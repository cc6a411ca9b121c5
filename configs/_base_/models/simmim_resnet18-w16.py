# a ResNet-18 of 0.7 M parameters for small images: 16 to 128 channels, 3x3 stem of stride 1, stride 4 in all
model = dict(
    type='SimMIM',
    mask_patch=4,
    mask_ratio=0.6,
    backbone=dict(
        type='MaskedResNetCIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
