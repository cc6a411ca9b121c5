# SimMIM with ResNet-50: the token stands after the max-pool (stride 4); 32x32 pixels from every position of the last map
model = dict(
    type='SimMIM',
    mask_patch=32,
    mask_ratio=0.6,
    channels_last=True,
    backbone=dict(type='MaskedResNet', depth=50, norm_cfg=dict(type='PortableSyncBN')),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
