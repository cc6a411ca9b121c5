_base_ = './finetune-rsb-a3_resnet50_8xb256-amp-coslr-100e_in1k-160px.py'

model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.ConvNeXt', arch='tiny', drop_path_rate=0.1),
    neck=None,
)
