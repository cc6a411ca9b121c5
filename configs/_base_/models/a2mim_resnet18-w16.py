# A2MIM on the small ResNet of simmim_resnet18-w16: the token joins the input of its last stage
_base_ = './simmim_resnet18-w16.py'

model = dict(
    type='A2MIM',
    backbone=dict(mask_layer=3, mask_replace=False, mask_gain=1e-6),
    head=dict(type='A2MIMHead', mode='focal_l1', fft_weight=0.5, fft_unmask_weight=1e-3),
)
