# linear evaluation as in MoCo v3 and Layer Grafted Pre-training: 70 heads on augmented images, 90 epochs
_base_ = './imagenet_224.py'

augmented_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    _delete_=True,
    train=_base_.evaluation.train,
    test=_base_.evaluation.test,
    augmented=dict(type='ImageNet', data_root='data/imagenet', split='train', pipeline=augmented_pipeline),
    loader=dict(batch_size=256, num_workers=10),
    linear=dict(epochs=90, batch_size=4096, augment=True),
)
