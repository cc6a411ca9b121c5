# ImageNet for SwAV: 2 large and 6 small crops.
# Statistics of SwAV's release on 0..255, with a deviation of 0.228 for red. Images are RGB from the start (PIL), so no
# channels are swapped.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.14, 57.12, 57.375], to_rgb=False
)

crops = [
    dict(num=2, size=224, area=(0.14, 1.0), interpolation='bilinear'),
    dict(num=6, size=96, area=(0.05, 0.14), interpolation='bilinear'),
]
transforms = [
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
        ],
        p=0.8,
    ),
    dict(type='mmpretrain.torchvision/RandomGrayscale', p=0.2),
    dict(type='PILGaussianBlur', radius=(0.1, 2.0), p=0.5),
]

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='MultiCrop', crops=crops, transforms=transforms),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='ImageNet', data_root='data/imagenet', split='train', pipeline=train_pipeline)

train_dataloader = dict(
    batch_size=64,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
