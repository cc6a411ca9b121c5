# blr 1e-3 at batch 1024, layer decay 0.75, drop path 0.2, 50 epochs
_base_ = './finetune-mae-own_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.2))

optim_wrapper = dict(optimizer=dict(lr=4e-3), paramwise_cfg=dict(layer_wise_decay_ratio=0.75))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-6 / 4e-3, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=50)
