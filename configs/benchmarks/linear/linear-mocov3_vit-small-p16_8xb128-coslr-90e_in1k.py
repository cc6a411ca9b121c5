_base_ = './linear-mocov3_vit-base-p16_8xb128-coslr-90e_in1k.py'

model = dict(backbone=dict(arch='mocov3-small'))
