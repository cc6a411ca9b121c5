# ImageNet: the two views of contrastive learning, then the view of masked image modeling.
_base_ = './imagenet_mocov3_224.py'

mim_view = [
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='Views', views=[_base_.view1, _base_.view2, mim_view]),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
