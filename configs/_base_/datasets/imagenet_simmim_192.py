# ImageNet for SimMIM at 192 px. 8 GPUs x 128 x 2 accumulated = the published batch of 2048.
_base_ = './imagenet_simmim_224.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=192, scale=(0.67, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
