# A2MIM's recipe for ResNets, batch 2048: lr 3e-4 * 2048 / 512, cosine to 1e-5, which also bends the warm-up; no decay of
# norms, biases, token and gain, which learn at a tenth of the rate. The released list decays the norms of shortcuts:
# paramwise_cfg.as_released=True.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.2e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(
        rules=[
            dict(match=r'(bn|ln|gn)(\d+)?\.(weight|bias)', decay_mult=0.0),
            dict(match='bias', decay_mult=0.0),
            dict(match='mask_token', lr_mult=0.1, decay_mult=0.0),
            dict(match='mask_gamma', lr_mult=0.1, decay_mult=0.0),
        ]
    ),
)

param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=10,
        min_lr=1e-5,
        cosine_in_warmup=True,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
auto_scale_lr = dict(enable=False, base_batch_size=2048)
