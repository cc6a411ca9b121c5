# Any folder of images, 224 px, two views of MoCo v3: the augmentation of ImageNet's config. One process.
_base_ = './imagenet_mocov3_224.py'

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(_delete_=True, type='ImageFolder', data_root='data/images', pipeline=_base_.train_pipeline),
)
