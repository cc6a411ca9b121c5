# SimCLR's loss instead of MoCo v3's: no predictor, no momentum encoder
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(type='JointEmbedding', head=dict(_delete_=True, type='NTXentHead', temperature=0.2))
default_hooks = dict(momentum=None)
