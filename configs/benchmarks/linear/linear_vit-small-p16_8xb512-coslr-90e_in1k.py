# MoCo v3's ViT-S of 12 heads; arch='deit-small' is the one of 6
_base_ = './linear_vit-base-p16_8xb512-coslr-90e_in1k.py'

model = dict(backbone=dict(arch='mocov3-small'))
