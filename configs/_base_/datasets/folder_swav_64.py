# any folder of images, SwAV's crops scaled down to 64 and 32 px, the blur with them
_base_ = './folder_swav_224.py'

crops = [
    dict(num=2, size=64, area=(0.14, 1.0), interpolation='bilinear'),
    dict(num=4, size=32, area=(0.05, 0.14), interpolation='bilinear'),
]
transforms = [*_base_.transforms[:3], dict(type='PILGaussianBlur', radius=(0.1, 0.6), p=0.5)]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='MultiCrop', crops=crops, transforms=transforms),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
