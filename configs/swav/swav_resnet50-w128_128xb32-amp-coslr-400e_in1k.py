# RN50w2: all widths doubled, 4 small crops
_base_ = './swav_resnet50_64xb64-amp-coslr-200e_in1k.py'

model = dict(
    backbone=dict(stem_channels=128, base_channels=128),
    neck=dict(hid_channels=8192),
)

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(
        type='MultiCrop',
        crops=[
            dict(num=2, size=224, area=(0.14, 1.0), interpolation='bilinear'),
            dict(num=4, size=96, area=(0.05, 0.14), interpolation='bilinear'),
        ],
        transforms=_base_.transforms,
    ),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=400)
