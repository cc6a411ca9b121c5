# color 64-px windows of the photographs that come with scikit-image: two for testing, the others for training
# ImageNet statistics on 0..255. Images are RGB from the start (PIL), so no channels are swapped.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=False
)

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(
    type='SamplePhotos',
    library='scikit-image',
    split='train',
    window=64,
    height=256,
    channels=3,
    stride=16,
    pipeline=train_pipeline,
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
