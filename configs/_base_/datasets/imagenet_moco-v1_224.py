# ImageNet for MoCo v1: MoCo v2's crop, gray and flip, colors always and without blur.
_base_ = './imagenet_moco-v2_224.py'

view = [
    _base_.view[0],
    _base_.view[2],
    dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    _base_.view[4],
]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='TwoViews', view1=view, view2=view),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
