# the encoder of the Fashion-MNIST configs only, for scoring; statistics of the training split on 0..255
model = dict(
    backbone=dict(
        type='SelfSupViT',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=28,
        patch_size=4,
        in_channels=1,
    ),
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[72.9404], std=[90.0212], to_rgb=False),
)
