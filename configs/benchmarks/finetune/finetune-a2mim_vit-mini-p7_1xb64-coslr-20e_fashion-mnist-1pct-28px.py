# the mean of the patches after the last block, through a new norm, as A2MIM reads its ViTs; patches of 7 pixels
_base_ = './finetune_vit-mini-p4_1xb64-coslr-20e_fashion-mnist-1pct-28px.py'

model = dict(backbone=dict(patch_size=7, out_type='avg_featmap', final_norm=False))
