# A2MIM with ConvNeXt-T: the token joins the output of the last down-sampling layer; no Fourier loss, as released
model = dict(
    type='A2MIM',
    mask_patch=32,
    mask_ratio=0.6,
    channels_last=True,
    backbone=dict(
        type='MaskedConvNeXt',
        arch='tiny',
        gap_before_final_norm=False,
        mask_layer=3,
        mask_replace=False,
        mask_gain=1e-6,
    ),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='A2MIMHead', mode='focal_l1'),
)
