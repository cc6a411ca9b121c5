# MAE and MoCo v3 on one mini ViT, sizes of mae_vit-mini-p4 and mocov3_vit-mini-p4
_base_ = './multi-task_vit-base-p16.py'

decoder = dict(decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=4)
masked = dict(neck=decoder, head=dict(norm_pix=False))
contrast = dict(
    neck=dict(hid_channels=256, out_channels=64),
    head=dict(predictor=dict(hid_channels=256)),
)

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256),
        img_size=16,
        patch_size=4,
        in_channels=1,
    ),
    objectives=dict(mim=dict(model=masked), cl=dict(model=contrast)),
)
