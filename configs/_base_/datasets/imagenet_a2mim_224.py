# ImageNet for A2MIM's ResNets and ConvNeXts: a gentle crop. Its ViTs take SimMIM's, imagenet_simmim_224.py.
_base_ = './imagenet_simmim_224.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.8, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
