# VICReg's loss instead of MoCo v3's: no predictor, no momentum encoder, a wider projector
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(
    type='JointEmbedding', neck=dict(hid_channels=256, out_channels=256), head=dict(_delete_=True, type='VICRegHead')
)
default_hooks = dict(momentum=None)
