# VICReg's loss instead of MoCo v3's: no predictor, no momentum encoder, a wider projector
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(
    type='JointEmbedding', neck=dict(hid_channels=8192, out_channels=8192), head=dict(_delete_=True, type='VICRegHead')
)
default_hooks = dict(momentum=None)
