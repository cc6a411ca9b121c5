# SimMIM with Swin-B, windows of 6 at 192 px; the token replaces the patches of 4 pixels
model = dict(
    type='SimMIM',
    mask_patch=32,
    mask_ratio=0.6,
    backbone=dict(type='MaskedSwin', arch='base', img_size=192, window_size=6, drop_path_rate=0.0),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
