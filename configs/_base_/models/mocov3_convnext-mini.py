# MoCo v3 on the ConvNeXt of simmim_convnext-mini: the mean of its map after the last norm
_base_ = './mocov3_resnet18-w16.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[2, 4], channels=[32, 64]),
        in_channels=1,
        stem_patch_size=2,
        out_indices=(1,),
    ),
    neck=dict(with_avg_pool=False),
)
