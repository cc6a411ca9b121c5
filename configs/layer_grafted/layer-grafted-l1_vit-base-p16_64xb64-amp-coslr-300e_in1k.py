# the L1 term of the ViT-L recipe on ViT-B
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(l1_distance=dict(weight=1e-5, to_block=12))
