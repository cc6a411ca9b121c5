# each view shows a quarter of its patches (the official mae_aug)
_base_ = './layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py'

model = dict(view_mask_ratio=0.75)
