# SwAV's published recipe at batch 4096: LARS in its form (all tensors adapted and decayed), 10 epochs of warm-up from
# 0.3 to 4.8, cosine to 0.0048
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(
        type='LARS',
        lr=4.8,
        momentum=0.9,
        weight_decay=1e-6,
        trust_coefficient=1e-3,
        adapt_1d=True,
        separate_norms=True,
        eps=1e-8,
    ),
    constructor='LayerWiseLRConstructor',
)

param_scheduler = [
    dict(
        type='WarmupCosineLR', warmup=10, start_ratio=0.0625, min_ratio=1e-3, by_epoch=True, convert_to_iter_based=True
    )
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=200)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
