# for TEC of 300 epochs from MAE: layer decay 0.65, which leaves class token and its MLP at the full rate
_base_ = [
    '../../_base_/models/finetune_tec_vit-base-p16.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_adamw_100e.py',
    '../../_base_/default_runtime.py',
]

optim_wrapper = dict(paramwise_cfg=dict(layer_wise_decay_ratio=0.65, full_rate_names=['cls_token', 'cls_token_mlp']))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=20, min_ratio=1e-6 / 2e-3, by_epoch=True, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
