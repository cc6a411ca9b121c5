# 70 epochs instead of 75, the length of earlier versions
_base_ = './mocov3_vit-micro-p4_1xb64-coslr-75e_digits-16px.py'

param_scheduler = [dict(type='WarmupCosineLR', warmup=10, end=70, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=70)
