# MoCo v3's ViT-S has 12 heads; other papers' ViT-S has 6 (arch='deit-small')
_base_ = './mocov3_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(arch='mocov3-small'))
