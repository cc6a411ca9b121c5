# ConvNeXt-T: global average, the final norm, a linear head; mixing and label smoothing as for ViTs
_base_ = './finetune_vit-base-p16.py'

model = dict(
    channels_last=True,
    backbone=dict(_delete_=True, type='mmpretrain.ConvNeXt', arch='tiny', drop_path_rate=0.1),
)
