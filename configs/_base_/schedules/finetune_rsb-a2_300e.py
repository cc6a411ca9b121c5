# ResNet Strikes Back (arXiv 2110.00476), A2, batch 2048: LAMB 5e-3, cosine to 1e-6, no decay of norms and biases
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='auto',
    optimizer=dict(type='mmpretrain.Lamb', lr=5e-3, weight_decay=0.02),
    constructor='LayerWiseLRConstructor',
    paramwise_cfg=dict(no_decay_1d=True),
)

param_scheduler = [dict(type='WarmupCosineLR', warmup=5, min_lr=1e-6, by_epoch=True, convert_to_iter_based=True)]
# the last epoch is always validated
train_cfg = dict(type='ResumableEpochLoop', max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=2048)
