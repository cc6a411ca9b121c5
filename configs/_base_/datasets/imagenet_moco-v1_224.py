# ImageNet for MoCo v1: two views of one distribution.
# ImageNet statistics on 0..255. Images are RGB from the start (PIL), so no channels are swapped.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=False
)

view = [
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomGrayscale', p=0.2),
    dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='TwoViews', view1=view, view2=view),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='ImageNet', data_root='data/imagenet', split='train', pipeline=train_pipeline)

train_dataloader = dict(
    batch_size=32,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
