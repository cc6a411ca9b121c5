evaluation_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=256, interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=224),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    train=dict(type='ImageNet', data_root='data/imagenet', split='train', pipeline=evaluation_pipeline),
    test=dict(type='ImageNet', data_root='data/imagenet', split='val', pipeline=evaluation_pipeline),
    few_shot=dict(shots=[1, 2, 5, 13], draws=5),
    knn=dict(k=[20]),
)
