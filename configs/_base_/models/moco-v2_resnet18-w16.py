# MoCo v2 on a ResNet-18 of 0.7 M parameters for small images: 16 to 128 channels, projector 128-128-64. With
# a temperature of 0.2 it collapsed on the digits
_base_ = './moco-v2_resnet50.py'

model = dict(
    queue_size=4096,
    temperature=0.1,
    channels_last=False,
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
        norm_cfg=dict(type='BN'),
        zero_init_residual=False,
    ),
    neck=dict(hid_channels=128, out_channels=64),
)
