# A2MIM with ResNet-50: the token joins the input of the last stage (stride 16) with a gain that starts near zero; 32x32
# pixels from every position of the last map
model = dict(
    type='A2MIM',
    mask_patch=32,
    mask_ratio=0.6,
    channels_last=True,
    backbone=dict(
        type='MaskedResNet',
        depth=50,
        norm_cfg=dict(type='PortableSyncBN'),
        mask_layer=3,
        mask_replace=False,
        mask_gain=1e-6,
    ),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='A2MIMHead', mode='focal_l1', fft_weight=0.5, fft_unmask_weight=1e-3),
)
