# the same at 192 px
_base_ = './imagenet_1percent_224.py'

evaluation_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=224, interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=192),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    train=dict(pipeline=evaluation_pipeline),
    test=dict(pipeline=evaluation_pipeline),
)
