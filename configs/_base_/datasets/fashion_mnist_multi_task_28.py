# Fashion-MNIST, 28 px: the two views of contrastive learning, then the view of masked image modeling.
_base_ = './fashion_mnist_mocov3_28.py'

mim_view = [
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=28, scale=(0.5, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
]

train_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='Views', views=[_base_.view, _base_.view, mim_view]),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
