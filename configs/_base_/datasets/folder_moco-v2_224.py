# Any folder of images, 224 px, MoCo v2's two views: the augmentation of ImageNet's config. One process.
_base_ = './imagenet_moco-v2_224.py'

train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    dataset=dict(_delete_=True, type='ImageFolder', data_root='data/images', pipeline=_base_.train_pipeline),
)
