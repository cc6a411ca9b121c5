_base_ = './simmim_vit-base-p16_8xb128-steplr-800e_in1k.py'

model = dict(backbone=dict(arch='large'))

optim_wrapper = dict(type='AutocastOptimWrapper', dtype='auto')
