_base_ = './a2mim_vit-base-p16_8xb128-steplr-800e_in1k.py'

model = dict(backbone=dict(arch='large'))
