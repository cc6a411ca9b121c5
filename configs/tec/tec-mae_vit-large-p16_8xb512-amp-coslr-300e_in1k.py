# ViT-L/16 from MAE's
_base_ = './tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(
    base_model=dict(arch='large'),
    base_checkpoint='checkpoints/mae_pretrain_vit_large.pth',
    backbone=dict(arch='large'),
    neck=dict(decoder_embed_dim=768),
    head=dict(tau=1.4),
)
