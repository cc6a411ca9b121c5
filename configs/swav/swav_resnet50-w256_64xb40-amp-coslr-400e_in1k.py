# RN50w4: all widths times 4, 4 small crops, a queue of one batch from the start; the rate is that of batch 4096
_base_ = './swav_resnet50-w128_128xb32-amp-coslr-400e_in1k.py'

model = dict(
    backbone=dict(stem_channels=256, base_channels=256),
    head=dict(queue_length=2560),
)

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(
        type='MultiCrop',
        crops=[
            dict(num=2, size=224, area=(0.08, 1.0), interpolation='bilinear'),
            dict(num=4, size=96, area=(0.08, 0.14), interpolation='bilinear'),
        ],
        transforms=_base_.transforms,
    ),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(batch_size=40, dataset=dict(pipeline=train_pipeline))
auto_scale_lr = dict(base_batch_size=2560)
