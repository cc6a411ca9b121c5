# Fashion-MNIST: 2 crops of 28 px and 4 of 16 px, with the colors of MoCo v3's views
_base_ = './fashion_mnist_mocov3_28.py'

crops = [
    dict(num=2, size=28, area=(0.3, 1.0), interpolation='bilinear'),
    dict(num=4, size=16, area=(0.1, 0.3), interpolation='bilinear'),
]

train_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='MultiCrop', crops=crops, transforms=_base_.view[1:]),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
