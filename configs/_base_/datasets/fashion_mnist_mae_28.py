# Fashion-MNIST, 28 px, for masked image modeling.
# Statistics of the training split on 0..255; one channel.
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[72.9404], std=[90.0212], to_rgb=False)

train_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=28, scale=(0.5, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='FashionMNIST', data_root='data/fashion_mnist', split='train', pipeline=train_pipeline)

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
