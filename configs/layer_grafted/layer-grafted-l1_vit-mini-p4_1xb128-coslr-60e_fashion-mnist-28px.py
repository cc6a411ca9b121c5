# held near the MIM weights up to block 4 by the L1 term of the ViT-L recipe
_base_ = './layer-grafted_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py'

model = dict(l1_distance=dict(weight=1e-5, to_block=4))
