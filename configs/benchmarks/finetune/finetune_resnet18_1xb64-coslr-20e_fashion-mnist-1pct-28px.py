# gray images as RGB, so that a ResNet-18 of another library fits, torchvision's for instance
_base_ = './finetune_vit-mini-p4_1xb64-coslr-20e_fashion-mnist-1pct-28px.py'

model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.ResNet', depth=18),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
)

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=28, scale=(0.5, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='LoadImage', channels=3), dict(type='mmpretrain.PackInputs')]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
