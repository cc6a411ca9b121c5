# SwAV on a ViT of 64 channels and 6 blocks; its position table is resized for the small crops
_base_ = './swav_resnet50.py'

model = dict(
    channels_last=False,
    backbone=dict(
        _delete_=True,
        type='SelfSupViT',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=28,
        patch_size=4,
        in_channels=1,
        init='mocov3',
        stop_grad_patch_embed=True,
    ),
    neck=dict(hid_channels=256, out_channels=64),
    head=dict(num_prototypes=100),
)
