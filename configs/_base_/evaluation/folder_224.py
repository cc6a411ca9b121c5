evaluation_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=256, interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=224),
    dict(type='mmpretrain.PackInputs'),
]

# a fifth of the images, the same for every run, is kept for testing; see _base_/datasets/folder_*.py
evaluation = dict(
    train=dict(type='ImageFolder', data_root='data/images', subset='train', pipeline=evaluation_pipeline),
    test=dict(type='ImageFolder', data_root='data/images', subset='test', pipeline=evaluation_pipeline),
    few_shot=dict(shots=[1, 2, 5, 10], draws=10),
    knn=dict(k=[20]),
    linear=dict(epochs=30, batch_size=256, augment=False, selection='holdout'),
)
