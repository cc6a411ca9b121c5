# MAE's published recipe at batch 4096: lr 1.5e-4 * 4096 / 256, no decay on 1-D tensors
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(no_decay_1d=True),
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=40, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=800)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
