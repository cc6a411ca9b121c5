# A2MIM with ViT-B/16: the token is added to the patches, in front of all blocks
model = dict(
    type='A2MIM',
    mask_patch=32,
    mask_ratio=0.6,
    backbone=dict(type='MaskedBEiT', arch='base', img_size=224, patch_size=16, drop_path_rate=0.1, mask_replace=False),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='A2MIMHead', mode='l1', fft_weight=0.1),
)
