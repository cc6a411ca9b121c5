# scikit-learn's digits, 16 px, two views. No flip: it would turn digits into other signs.
# Statistics of the training split at 16 px on 0..255; one channel.
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[78.0575], std=[81.4098], to_rgb=False)

view = [
    dict(
        type='mmpretrain.torchvision/RandomAffine',
        degrees=20,
        translate=(0.15, 0.15),
        scale=(0.75, 1.15),
        shear=(-20, 20, -8, 8),
        interpolation='bilinear',
    ),
    dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.3),
    dict(type='PILGaussianNoise', std=0.05),
]

train_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='TwoViews', view1=view, view2=view),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='Digits', split='train', img_size=16, fast='device', pipeline=train_pipeline)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='mmselfsup_graft.collate'),
    dataset=dataset,
)
