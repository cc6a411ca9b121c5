# the same sweep of 70 heads as on ImageNet, shorter, on augmented images
_base_ = './fashion_mnist_28.py'

augmented_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=28, scale=(0.3, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    _delete_=True,
    train=dict(type='FashionMNIST', split='train', indices=6000, pipeline=_base_.evaluation_pipeline),
    test=_base_.evaluation.test,
    augmented=dict(type='FashionMNIST', split='train', indices=6000, pipeline=augmented_pipeline),
    linear=dict(epochs=30, batch_size=256, augment=True),
)
