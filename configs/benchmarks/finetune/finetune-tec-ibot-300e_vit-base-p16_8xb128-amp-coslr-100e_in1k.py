# for TEC of 300 epochs from iBOT
_base_ = './finetune-tec-mae-300e_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_wise_decay_ratio=0.5))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-6 / 2e-3, by_epoch=True, convert_to_iter_based=True)
]
