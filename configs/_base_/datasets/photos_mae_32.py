# color 32-px windows of the photographs of scikit-learn and scikit-image: seven for training, three for testing
# ImageNet statistics on 0..255. Images are RGB from the start (PIL), so no channels are swapped.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=False
)

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    # any hue: seven photographs have few colors, and the test photographs have others
    dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.4, contrast=0.4, hue=0.5),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(
    type='SamplePhotos',
    library=['scikit-learn', 'scikit-image'],
    split='train',
    window=32,
    height=160,
    channels=3,
    stride=6,  # not whole patches: windows cut the photographs into other patches
    pipeline=train_pipeline,
    fast='cpu',
)

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
