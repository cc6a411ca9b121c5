# TEC's targets for a ResNet-18 of 0.7 M parameters, from the small ViT of tec_vit-mini-p4.py: 7x7 positions in both
_base_ = './tec_resnet50.py'

arch = dict(_delete_=True, embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256)
model = dict(
    channels_last=False,
    base_model=dict(arch=arch, img_size=28, patch_size=4, topk=9),
    backbone=dict(
        _delete_=True,
        type='MaskedResNetCIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    neck=dict(hidden_channels=256),
)
