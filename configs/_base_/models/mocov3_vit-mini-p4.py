# MoCo v3 on the mini ViT: projector 64-256-256-64, predictor 64-256-64
_base_ = './mocov3_vit-base-p16.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=16,
        patch_size=4,
        in_channels=1,
    ),
    neck=dict(hid_channels=256, out_channels=64),
    head=dict(predictor=dict(hid_channels=256)),
)
