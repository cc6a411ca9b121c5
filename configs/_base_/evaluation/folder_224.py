_base_ = './folder_64.py'

evaluation_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=256, interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=224),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(train=dict(pipeline=evaluation_pipeline), test=dict(pipeline=evaluation_pipeline))
