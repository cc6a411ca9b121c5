# ImageNet-100, 192 px, for ViTs: a wider crop. 4 GPUs x 256 x 2 accumulated = the published batch of 2048.
# A folder laid out like ImageNet with the images of 100 classes; there is no official list of classes.
_base_ = './imagenet_simmim_224.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=192, scale=(0.67, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(data_root='data/imagenet100', pipeline=train_pipeline))
