# the small ResNet of MoCo v3, SimMIM and A2MIM on Fashion-MNIST
_base_ = './finetune_vit-mini-p4_1xb64-coslr-20e_fashion-mnist-1pct-28px.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        strides=(2, 2, 1, 1),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
)
