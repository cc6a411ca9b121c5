# CIFAR-100 for A2MIM, enlarged to 224 px: crop and flip. 4 GPUs x 64 x 2 accumulated = the published batch of 512.
# Statistics of the training split on 0..255. Images are RGB from the start (PIL), so no channels are swapped.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor',
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=False,
)

# The released configs name no crop scale for CIFAR; 0.8-1 is that of A2MIM's ResNets and our choice.
train_pipeline = [
    dict(type='LoadImage', channels=3),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224, scale=(0.8, 1.0), interpolation='bilinear'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

dataset = dict(type='CIFAR', data_root='data/cifar', classes=100, split='train', pipeline=train_pipeline)

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dataset,
)
