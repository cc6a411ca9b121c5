# the token is added to the patches; a depth-wise block stands before the prediction
_base_ = './a2mim-l8_deit-small-p16_4xb256-coslr-800e_in100-192px.py'

model = dict(backbone=dict(mask_layer=0), neck=dict(block_kernel=5))
