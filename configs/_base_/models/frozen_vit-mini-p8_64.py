# the encoder of the ViTs on folders at 64 px, for scoring
_base_ = './frozen_vit-base-p16.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=64,
        patch_size=8,
    )
)
