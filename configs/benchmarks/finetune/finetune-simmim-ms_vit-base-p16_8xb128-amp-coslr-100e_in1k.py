# the recipe of SimMIM's authors for ViT-B: no absolute positions, lr 1.25e-3 * 1024 / 512, cosine to 2.5e-7 * 1024 / 512
_base_ = [
    '../../_base_/models/finetune_beit-base-p16.py',
    '../../_base_/datasets/imagenet_finetune_224.py',
    '../../_base_/schedules/finetune_adamw_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(use_abs_pos_emb=False))
optim_wrapper = dict(optimizer=dict(lr=2.5e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [dict(type='WarmupCosineLR', warmup=20, min_lr=5e-7, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
