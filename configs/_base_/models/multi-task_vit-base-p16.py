# MAE and MoCo v3 on one ViT-B/16; views 0 and 1 are contrasted, view 2 is masked
_base_ = './mocov3_vit-base-p16.py'

contrast = dict(type='MoCoV3', neck=_base_.model.neck, head=_base_.model.head)
masked = dict(
    type='MAE',
    mask_ratio=0.75,
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

# one patch projection serves both, so it learns; the layout of the position table is MAE's
model = dict(
    _delete_=True,
    type='MultiTask',
    backbone=dict(_base_.model.backbone, init='mae', stop_grad_patch_embed=False),
    objectives=dict(
        mim=dict(model=masked, views=2, weight=1.0),
        cl=dict(model=contrast, views=[0, 1], weight=1.0),
    ),
)
