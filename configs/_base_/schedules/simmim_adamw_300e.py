# SimMIM's recipe for ResNets in A2MIM's release, batch 2048: lr 2e-4 * 2048 / 512, cosine to 1e-5; biases, norms and the
# mask token are not decayed, the token learns at a tenth of the rate
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='AdamW', lr=8e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(mask_token=dict(lr_mult=0.1, decay_mult=0.0)),
    ),
)

param_scheduler = [
    dict(type='WarmupCosineLR', warmup=10, end=300, min_ratio=1e-5 / 8e-4, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=300)
auto_scale_lr = dict(enable=False, base_batch_size=2048)
