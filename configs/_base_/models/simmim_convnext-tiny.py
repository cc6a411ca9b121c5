# SimMIM with ConvNeXt-T: the token replaces the output of the stem (stride 4), so that the image is hidden
model = dict(
    type='SimMIM',
    mask_patch=32,
    mask_ratio=0.6,
    channels_last=True,
    backbone=dict(type='MaskedConvNeXt', arch='tiny', gap_before_final_norm=False),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
