# Any folder of images, 224 px, MoCo v2's two views.
# ImageNet statistics on 0..255. Images are RGB from the start (PIL), so no channels are swapped.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=False
)

view = [
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bilinear'),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        ],
        p=0.8,
    ),
    dict(type='mmpretrain.torchvision/RandomGrayscale', p=0.2),
    dict(type='PILGaussianBlur', radius=(0.1, 2.0), p=0.5),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='TwoViews', view1=view, view2=view),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='ImageFolder', data_root='data/images', pipeline=train_pipeline)

train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
