# the same for a ConvNeXt of two stages: stem of 2x2 pixels, stride 4 in all
_base_ = './tec_resnet18-w16.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedConvNeXt',
        arch=dict(depths=[2, 4], channels=[32, 64]),
        in_channels=1,
        stem_patch_size=2,
        out_indices=(1,),
        gap_before_final_norm=False,
    ),
)
