# SimCLR's loss instead of MoCo v3's: no predictor, no momentum encoder
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(type='JointEmbedding', head=dict(_delete_=True, type='NTXentHead', temperature=0.2))
default_hooks = dict(momentum=None)
