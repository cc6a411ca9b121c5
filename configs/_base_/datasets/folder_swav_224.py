# any folder of images, SwAV's crops of 224 and 96 px
_base_ = './imagenet_swav_224.py'

train_dataloader = dict(
    num_workers=2,
    dataset=dict(_delete_=True, type='ImageFolder', data_root='data/images', pipeline={{_base_.train_pipeline}}),
)
