# ResNet Strikes Back, A3: 100 epochs, LAMB 8e-3
_base_ = './finetune_rsb-a2_300e.py'

optim_wrapper = dict(optimizer=dict(lr=8e-3))
param_scheduler = [dict(type='WarmupCosineLR', warmup=5, min_lr=1e-6, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=100)
