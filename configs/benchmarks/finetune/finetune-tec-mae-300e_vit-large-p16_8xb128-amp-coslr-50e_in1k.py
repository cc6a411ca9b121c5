# for TEC's ViT-L/16 of 300 epochs from MAE: lr 1e-3 * 1024 / 256
_base_ = './finetune-tec-mae-300e_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='large'))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-5 / 4e-3, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=50)
