# the token is added to the input of the last stage as it is, without a gain
_base_ = './a2mim_resnet50_8xb256-coslr-100e_in1k.py'

model = dict(backbone=dict(mask_gain=0.0))
