# ImageNet for ResNet Strikes Back, A3: trained at 160 px with rand-m6-mstd0.5-inc1, each image once; tested at 224 px
_base_ = './imagenet_rsb-a2_224.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=160, interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    # mmpretrain's RandAugment works on BGR arrays
    dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    dict(
        type='RandAugment',
        _scope_='mmpretrain',  # its policies use transforms without scope
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=6,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    sampler=dict(_delete_=True, type='SeededSampler', shuffle=True), dataset=dict(pipeline=train_pipeline)
)
