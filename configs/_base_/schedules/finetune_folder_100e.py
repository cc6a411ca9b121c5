# for a folder of images on one GPU: AdamW 5e-4 at batch 64; a start, not tuned
_base_ = './finetune_adamw_100e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-3, by_epoch=True, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=64)
