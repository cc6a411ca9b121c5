# MoCo v3's ViT-S of 12 heads; arch='deit-small' is the one of 6
_base_ = './knn_vit-base-p16_in1k.py'

model = dict(backbone=dict(arch='mocov3-small'))
