# TEC's targets for ConvNeXt-T: the token replaces the output of the stem
_base_ = './tec_resnet50.py'

model = dict(backbone=dict(_delete_=True, type='MaskedConvNeXt', arch='tiny', gap_before_final_norm=False))
