# SimMIM with a Swin of two stages for small images: patches of 2 pixels, windows of 7 x 7
model = dict(
    type='SimMIM',
    mask_patch=4,
    mask_ratio=0.6,
    backbone=dict(
        type='MaskedSwin',
        arch=dict(embed_dims=32, depths=[2, 4], num_heads=[2, 4]),
        img_size=28,
        patch_size=2,
        in_channels=1,
        window_size=7,
        out_indices=(1,),
        drop_path_rate=0.0,
    ),
    neck=dict(type='PixelShuffleNeck'),
    head=dict(type='SimMIMHead'),
)
