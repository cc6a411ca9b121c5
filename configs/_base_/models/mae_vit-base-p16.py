# MAE with ViT-B/16: decoder of 8 blocks, 512 wide; targets normalized per patch
model = dict(
    type='MAE',
    mask_ratio=0.75,
    backbone=dict(type='SelfSupViT', arch='base', img_size=224, patch_size=16, init='mae'),
    neck=dict(
        type='MAEDecoder',
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
    ),
    head=dict(
        type='mmpretrain.MAEPretrainHead',
        norm_pix=True,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
    ),
)
