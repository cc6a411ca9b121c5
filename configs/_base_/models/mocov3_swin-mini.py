# MoCo v3 on the Swin of simmim_swin-mini: the mean of its map
_base_ = './mocov3_resnet18-w16.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 4], num_heads=[2, 4]),
        img_size=28,
        patch_size=2,
        in_channels=1,
        window_size=7,
        out_indices=(1,),
        drop_path_rate=0.0,
    ),
)
