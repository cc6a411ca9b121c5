# each view shows a quarter of its patches (the official mae_aug)
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(view_mask_ratio=0.75)
