# for a folder of images on one GPU, half precision: AdamW 1.5e-4 at batch 64, 20 epochs of warm-up; a start, not tuned
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(no_decay_1d=True),
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=20, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=300)
auto_scale_lr = dict(enable=False, base_batch_size=64)
