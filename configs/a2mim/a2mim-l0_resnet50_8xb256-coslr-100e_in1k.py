# the token is added after the max-pool, without a gain
_base_ = './a2mim_resnet50_8xb256-coslr-100e_in1k.py'

model = dict(backbone=dict(mask_layer=0, mask_gain=0.0))
