# without small crops; the two large ones have larger areas
_base_ = './swav_resnet50_64xb64-amp-coslr-200e_in1k.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(
        type='MultiCrop',
        crops=[dict(num=2, size=224, area=(0.08, 1.0), interpolation='bilinear')],
        transforms=_base_.transforms,
    ),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=400)
