# ImageNet for ResNet Strikes Back, A2: RandAugment (rand-m7-mstd0.5-inc1), no erasing, each image three times in an epoch
# that sees a third of them; tested at 224 px after a resize to 236
_base_ = './imagenet_finetune_224.py'

train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    # mmpretrain's RandAugment works on BGR arrays
    dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    dict(
        type='RandAugment',
        _scope_='mmpretrain',  # its policies use transforms without scope
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=7,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(type='mmpretrain.PackInputs'),
]

test_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/Resize', size=236, interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/CenterCrop', size=224),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=256,
    sampler=dict(_delete_=True, type='RepeatedAugSampler', shuffle=True, repeats=3),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=256, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
