# the same with SparK's settings: a tenth of the rate, which falls over six groups of layers, and little decay
_base_ = './finetune_convnext_300e.py'

optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=0.01),
    paramwise_cfg=dict(layer_wise_decay_ratio=0.7, layer_ids='backbone'),
)
param_scheduler = [dict(type='WarmupCosineLR', warmup=5, min_lr=1e-6, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=400)
