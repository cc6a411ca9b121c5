# as folder_finetune_224.py, 64 px, crop and flip alone
_base_ = './folder_finetune_224.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=64, scale=(0.5, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

test_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=64, interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=64),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=2, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
