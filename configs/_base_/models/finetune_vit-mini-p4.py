# a ViT of 0.3 M parameters for small gray images of ten classes
_base_ = './finetune_vit-base-p16.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=28,
        patch_size=4,
        in_channels=1,
    ),
    head=dict(num_classes=10),
)
