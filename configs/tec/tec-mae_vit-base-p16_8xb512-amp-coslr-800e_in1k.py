# 800 epochs from MAE's ViT-B
_base_ = './tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

param_scheduler = [dict(type='WarmupCosineLR', warmup=40, end=800, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=800)
