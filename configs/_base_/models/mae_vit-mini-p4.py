# a ViT of 0.3 M parameters for small images; raw pixels as targets: normalizing 16 pixels would amplify noise
model = dict(
    type='MAE',
    mask_ratio=0.75,
    backbone=dict(
        type='SelfSupViT',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=16,
        patch_size=4,
        in_channels=1,
        init='mae',
    ),
    neck=dict(
        type='MAEDecoder',
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4,
    ),
    head=dict(
        type='mmpretrain.MAEPretrainHead',
        norm_pix=False,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
    ),
)
