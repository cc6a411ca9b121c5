# CIFAR-100 enlarged to 224 px
evaluation_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=224, interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=224),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    train=dict(type='CIFAR', data_root='data/cifar', classes=100, split='train', pipeline=evaluation_pipeline),
    test=dict(type='CIFAR', data_root='data/cifar', classes=100, split='test', pipeline=evaluation_pipeline),
    few_shot=dict(shots=[1, 2, 5, 13], draws=5),
    knn=dict(k=[20]),
)
