# SwAV on a ResNet-18 of 0.7 M parameters: projector 128-256-64, 100 prototypes
_base_ = './swav_resnet50.py'

model = dict(
    channels_last=False,
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
        zero_init_residual=False,
        norm_cfg=dict(type='PortableSyncBN'),
    ),
    neck=dict(hid_channels=256, out_channels=64),
    head=dict(num_prototypes=100, epsilon=0.03),
)
