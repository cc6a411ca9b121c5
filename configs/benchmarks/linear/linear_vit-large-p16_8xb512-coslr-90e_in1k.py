_base_ = './linear_vit-base-p16_8xb512-coslr-90e_in1k.py'

model = dict(backbone=dict(arch='large'))
