# for small images and models: AdamW 1e-3 at batch 128, a tenth of the run as warm-up, float32
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(no_decay_1d=True),
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=6, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=60)
auto_scale_lr = dict(enable=False, base_batch_size=128)
