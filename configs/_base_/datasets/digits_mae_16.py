# scikit-learn's digits, 16 px, for masked image modeling: too small to gain from augmentation.
# Statistics of the training split at 16 px on 0..255; one channel.
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[78.0575], std=[81.4098], to_rgb=False)

train_pipeline = [
    dict(type='LoadImage', channels=1),
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
