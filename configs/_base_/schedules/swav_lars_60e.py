# for small images and models: the small-batch recipe at batch 128, lr 0.6 * 128 / 256, float32
_base_ = './swav_lars_200e.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='LARS',
        lr=0.3,
        momentum=0.9,
        weight_decay=1e-6,
        trust_coefficient=1e-3,
        adapt_1d=True,
        separate_norms=True,
        eps=1e-8,
    ),
    constructor='LayerWiseLRConstructor',
)
param_scheduler = [dict(type='WarmupCosineLR', warmup=0, min_ratio=1e-3, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=60)
auto_scale_lr = dict(base_batch_size=128)
