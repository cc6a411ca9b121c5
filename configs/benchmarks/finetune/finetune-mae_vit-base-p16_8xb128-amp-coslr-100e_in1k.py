# A2MIM's released recipe for ViTs without relative positions and layer scale, MAE's for instance
_base_ = './finetune-simmim_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

# the biases of queries, keys and values are one then
model = dict(backbone=dict(use_rel_pos_bias=False, layer_scale_init_value=0.0, bias=True))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=5,
        min_lr=1e-6,
        cosine_in_warmup=True,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
custom_hooks = []
