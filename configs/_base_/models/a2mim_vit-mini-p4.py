# A2MIM on the small ViT of simmim_vit-mini-p4: the token is added to the patches
_base_ = './simmim_vit-mini-p4.py'

model = dict(
    type='A2MIM',
    backbone=dict(mask_replace=False),
    head=dict(type='A2MIMHead', mode='l1', fft_weight=0.1),
)
