# MoCo v3's published ViT recipe at batch 4096: lr 1.5e-4 * 4096 / 256, one group, everything decayed
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.999), weight_decay=0.1, fused=True),
    constructor='LayerWiseLRConstructor',
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=40, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=300)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
