# MAE's linear probe: one head on batch norm without affine part, LARS at lr 0.1 * 16384 / 256, bicubic images
_base_ = './imagenet_linear_224.py'

evaluation_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=256, interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=224),
    dict(type='mmpretrain.PackInputs'),
]
augmented_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

evaluation = dict(
    train=dict(pipeline=evaluation_pipeline),
    test=dict(pipeline=evaluation_pipeline),
    augmented=dict(pipeline=augmented_pipeline),
    linear=dict(
        scales=[0.1],
        factors=[1.0],
        weight_decays=[0.0],
        batch_size=16384,
        add_batch_norm=True,
        optimizer='lars',
        momentum=0.9,
        warmup_epochs=10,
        per_iteration=True,
        drop_last=True,
    ),
)
