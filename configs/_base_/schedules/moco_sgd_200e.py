# MoCo: SGD 0.03 for 256 images, everything is decayed, a half cosine to 0 set once per epoch, float32
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4, fused=True),
    constructor='LayerWiseLRConstructor',
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=0, by_epoch=True)]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=200)
auto_scale_lr = dict(enable=False, base_batch_size=256)
