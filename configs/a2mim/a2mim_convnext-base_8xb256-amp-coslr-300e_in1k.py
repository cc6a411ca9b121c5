_base_ = './a2mim_convnext-tiny_8xb256-amp-coslr-300e_in1k.py'

model = dict(backbone=dict(arch='base'))
