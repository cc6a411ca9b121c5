# SimMIM with the ViT-B/16 of A2MIM's comparison: the token replaces the patches
model = dict(
    type='SimMIM',
    mask_patch=32,
    mask_ratio=0.6,
    backbone=dict(type='MaskedBEiT', arch='base', img_size=224, patch_size=16, drop_path_rate=0.1),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
