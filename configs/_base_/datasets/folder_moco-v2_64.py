# Any folder of images, 64 px, MoCo v2's two views with the blur scaled down to the size.
_base_ = './folder_moco-v2_224.py'

view = [
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=64, scale=(0.2, 1.0), interpolation='bilinear'),
    *_base_.view[1:3],
    dict(type='PILGaussianBlur', radius=(0.1, 0.6), p=0.5),
    _base_.view[4],
]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='TwoViews', view1=view, view2=view),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
