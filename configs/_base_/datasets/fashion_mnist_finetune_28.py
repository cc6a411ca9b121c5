# Fashion-MNIST, 28 px, for fine-tuning on 600 labeled images, 60 of each class.
# Statistics of the training split on 0..255; one channel.
data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=10, mean=[72.9404], std=[90.0212], to_rgb=False)

train_pipeline = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=28, scale=(0.5, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='mmpretrain.PackInputs'),
]

test_pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='FashionMNIST',
        data_root='data/fashion_mnist',
        split='train',
        part=dict(share=0.01),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(type='SeededSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='FashionMNIST', data_root='data/fashion_mnist', split='test', test_mode=True, pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
