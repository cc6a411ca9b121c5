# MAE's fine-tuning recipe at batch 1024: lr 5e-4 * 1024 / 256, layer decay, cosine to 1e-6 (times the layer's scale)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(layer_wise_decay_ratio=0.65, no_decay_names=['cls_token', 'pos_embed'], head_lr_scale=1.0),
)

param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, min_ratio=1e-6 / 2e-3, by_epoch=True, convert_to_iter_based=True)
]
# the last epoch is always validated
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=1024)
