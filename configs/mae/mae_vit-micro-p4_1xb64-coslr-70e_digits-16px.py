# a third of the length, to try things out
_base_ = './mae_vit-micro-p4_1xb64-coslr-210e_digits-16px.py'

param_scheduler = [dict(type='WarmupCosineLR', warmup=10, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=70)
