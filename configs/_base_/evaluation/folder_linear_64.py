# the sweep of 70 heads as on ImageNet, shorter, on augmented images
_base_ = './folder_64.py'

augmented_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=64, scale=(0.3, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    _delete_=True,
    train=_base_.evaluation.train,
    test=_base_.evaluation.test,
    augmented=dict(type='ImageFolder', data_root='data/images', subset='train', pipeline=augmented_pipeline),
    linear=dict(epochs=30, batch_size=256, augment=True),
)
