# TEC's targets for ResNet-50, from ViT-B/16 at 14x14: the token stands after the max-pool, 32x32 pixels are hidden at a
# time, targets are averaged to the 7x7 positions of the last map.
# The base model's weights are a file of any known format: model.base_checkpoint
model = dict(
    type='MaskedTEC',
    mask_ratio=0.6,
    channels_last=True,
    base_model=dict(type='TargetViT', arch='base', img_size=224, patch_size=16, last_layers=2, topk=15),
    backbone=dict(type='MaskedResNet', depth=50, norm_cfg=dict(type='PortableSyncBN')),
    neck=dict(type='TECMapNeck', hidden_channels=2048),
    head=dict(type='TECHead', tau=1.8),
)
