# SimMIM on the ViT of mae_vit-mini-p4, so that either objective can be grafted on the other
model = dict(
    type='SimMIM',
    mask_patch=4,
    mask_ratio=0.6,
    backbone=dict(
        type='MaskedViT',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=16,
        patch_size=4,
        in_channels=1,
        init='mae',
        out_type='featmap',
    ),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
