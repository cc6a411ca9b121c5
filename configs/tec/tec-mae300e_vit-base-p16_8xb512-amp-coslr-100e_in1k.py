# from MAE's ViT-B of 300 epochs
_base_ = './tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

model = dict(base_checkpoint='checkpoints/mae_vit_base_300e.pth')

param_scheduler = [dict(type='WarmupCosineLR', warmup=40, end=100, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=100)
