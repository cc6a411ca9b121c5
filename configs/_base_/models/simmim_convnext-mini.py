# a ConvNeXt of two stages for small images: stem of 2x2 pixels, stride 4 in all
model = dict(
    type='SimMIM',
    mask_patch=4,
    mask_ratio=0.6,
    backbone=dict(
        type='MaskedConvNeXt',
        arch=dict(depths=[2, 4], channels=[32, 64]),
        in_channels=1,
        stem_patch_size=2,
        out_indices=(1,),
        gap_before_final_norm=False,
    ),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
