# A2MIM on the small ConvNeXt of simmim_convnext-mini: the token joins the output of the down-sampling layer
_base_ = './simmim_convnext-mini.py'

model = dict(
    type='A2MIM',
    backbone=dict(mask_layer=1, mask_replace=False, mask_gain=1e-6),
    head=dict(type='A2MIMHead', mode='focal_l1'),
)
