_base_ = '../_base_/mmsegmentation/upernet_vit-base-p16_160k_ade20k-512x512.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='./tec_vit-base_pretrain.pth')))
