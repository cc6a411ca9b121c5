# for small images and models: AdamW 1e-3 at batch 64, layer decay 0.75, float32
_base_ = './finetune_adamw_100e.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(layer_wise_decay_ratio=0.75, no_decay_names=['cls_token', 'pos_embed'], head_lr_scale=1.0),
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=2, min_ratio=1e-3, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=20)
auto_scale_lr = dict(base_batch_size=64)
