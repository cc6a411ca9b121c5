# grey 16-px windows of scikit-learn's two photographs: one to learn from, one to test on
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[127.5], std=[64.0], to_rgb=False)

train_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='SamplePhotos', split='train', window=16, height=160, stride=8, pipeline=train_pipeline)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
