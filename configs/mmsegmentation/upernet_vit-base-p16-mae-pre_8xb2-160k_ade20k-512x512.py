_base_ = '../_base_/mmsegmentation/upernet_vit-base-p16_160k_ade20k-512x512.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./mae_pretrain_vit_base.pth')))
