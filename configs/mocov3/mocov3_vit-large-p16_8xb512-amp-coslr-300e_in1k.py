# ViT-B's recipe; no published recipe of this length is known to us for ViT-L
_base_ = './mocov3_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(arch='large'))
