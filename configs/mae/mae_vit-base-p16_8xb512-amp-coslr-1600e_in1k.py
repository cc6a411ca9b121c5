# the length of the published checkpoints mae_pretrain_vit_*.pth
_base_ = './mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'

param_scheduler = [dict(type='WarmupCosineLR', warmup=40, end=1600, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=1600)
